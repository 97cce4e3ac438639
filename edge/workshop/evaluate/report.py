"""An evaluation as a page of text for 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edge.workshop.evaluate.accuracy import Evaluation

_BAR, _NAMES = 36, 54  # characters


def to_text(evaluation: Evaluation) -> str:
    """A page of at most 80 columns."""
    document = evaluation.to_dict()
    lines = [f"model      {document['model']}", f"photos     {document['photos']}", ""]
    lines += [_share("top-1", document["top1"], document["top1_interval"])]
    lines += [_share("top-5", document["top5"], document["top5_interval"])]
    if (fp32 := document["fp32"]) is not None:
        lines += [
            _share("FP32 top-1", fp32["top1"], fp32["top1_interval"]),
            _share("agreement", fp32["agreement"], fp32["agreement_interval"]) + "  same first label as FP32",
            f"{'':11}confidence differs by {fp32['confidence_difference']:.1f} points on average",
        ]
    lines += ["", *_calibration(document["calibration"], document["top1"])]
    if document["confused"]:
        lines += ["", "most confused", *(_pair(pair) for pair in document["confused"])]
    return "\n".join(lines)


def _share(name: str, percent: float, interval: list[float]) -> str:
    low, high = interval
    return f"{name:<11}{percent:5.1f} %   {low:5.1f} to {high:.1f} %"


def _calibration(calibration: dict[str, Any], right: float) -> Iterator[str]:
    sure, error = calibration["confidence"], calibration["error"]
    lean = sure - right
    leaning = "balanced" if abs(lean) < 0.5 else "too sure" if lean > 0 else "too modest"
    yield f"calibration error {error:.1f} points: {sure:.1f} % sure on average, {right:.1f} % right: {leaning}"
    yield ""
    yield f"{'confidence':<14}{'photos':>6}  {'sure':>6}  {'right':>7}  {'█ right, │ sure':<{_BAR}}".rstrip()
    for part in calibration["bins"]:
        span = f"{part['from']:3.0f} to {part['to']:3.0f} %"
        cells = ["█" if i < round(part["right"] / 100 * _BAR) else "·" for i in range(_BAR)]
        cells[min(int(part["confidence"] / 100 * _BAR), _BAR - 1)] = "│"
        yield (
            f"{span:<14}{part['photos']:>6}  {part['confidence']:>4.0f} %  {part['right']:>5.0f} %  {''.join(cells)}"
        )


def _pair(pair: dict[str, Any]) -> str:
    names = f"{pair['truth']} taken for {pair['said']}"
    names = names if len(names) <= _NAMES else names[: _NAMES - 1] + "…"
    return f"{pair['photos']:>4} ×  {names:<{_NAMES}}  {pair['confidence']:.0f} % sure"
