"""An evaluation for people: a page of text for 80 columns, and a reliability diagram."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.workshop.charts import Canvas
from edge.workshop.evaluate.accuracy import BINS, Evaluation

_BAR, _NAMES = 36, 54  # characters
_SIDE, _LEFT, _TOP, _COUNTS = 400, 70, 70, 90  # pixels: the diagram, what is around it, and the counts below
_BLUE, _ORANGE, _GREY = "#2f6fb3", "#e08a2e", "#bbbbbb"


def to_text(evaluation: Evaluation) -> str:
    """A page of at most 80 columns."""
    document = evaluation.to_dict()
    lines = [f"model      {document['model']}", f"photos     {document['photos']}", ""]
    lines += [_share("top-1", document["top1"], document["top1_interval"])]
    lines += [_share("top-5", document["top5"], document["top5_interval"])]
    if (fp32 := document["fp32"]) is not None:
        lines += [
            _share("FP32 top-1", fp32["top1"], fp32["top1_interval"]),
            _share("agreement", fp32["agreement"], fp32["agreement_interval"]) + "  say the same as FP32",
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


def draw(evaluation: Evaluation, file: Path) -> None:
    """The reliability diagram: how often each bin of confidences was right, and how many photos it holds.

    Raises:
        StateError: the name has another ending than .svg and .png, or the file cannot be written.
    """
    bins = evaluation.bins()
    canvas = Canvas(_LEFT + _SIDE + 40, _TOP + _SIDE + _COUNTS + 70)
    bottom, width = _TOP + _SIDE, _SIDE / BINS
    canvas.text(20, 28, evaluation.model, size=17, bold=True)
    error = f"{len(evaluation.answers)} photos, calibration error {evaluation.calibration_error():.1f} points"
    canvas.text(20, 50, error)
    most = max(part.photos for part in bins)
    for part in bins:
        left, height = _LEFT + _SIDE * part.low / 100, _SIDE * part.right / 100
        canvas.rectangle(left + 2, bottom - height, width - 4, height, _BLUE)
        # What the bin's photos were sure of: above the bar it is too sure, inside it too modest.
        canvas.rectangle(left, bottom - _SIDE * part.confidence / 100 - 1, width, 3, _ORANGE)
        tall = (_COUNTS - 30) * part.photos / most
        canvas.rectangle(left + 2, bottom + _COUNTS - tall, width - 4, tall, _GREY)
        canvas.text(left + width / 2, bottom + _COUNTS - tall - 4, str(part.photos), size=11, anchor="middle")
    canvas.line((_LEFT, bottom), (_LEFT + _SIDE, _TOP), _GREY)
    for percent in range(0, 101, 20):
        place = _SIDE * percent / 100
        canvas.text(_LEFT - 8, bottom - place + 4, f"{percent}", size=11, anchor="end")
        canvas.text(_LEFT + place, bottom + _COUNTS + 16, f"{percent}", size=11, anchor="middle")
    canvas.line((_LEFT, _TOP), (_LEFT, bottom))
    canvas.line((_LEFT, bottom), (_LEFT + _SIDE, bottom))
    canvas.text(20, _TOP - 8, "right, %", size=11)
    canvas.text(_LEFT + _SIDE / 2, bottom + _COUNTS + 38, "confidence, %; blue: right, orange: sure", anchor="middle")
    canvas.save(file)
