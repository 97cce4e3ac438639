"""A bar chart of one or two results, as SVG or PNG.

Twenty rectangles and some words need no plotting library: matplotlib alone would be a fifth of what torch's CPU
build takes on a Pi's card, for a picture that is drawn once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np

from edge.bench.result import STAGES, Result
from edge.errors import StateError

WIDTH, ROW, BAR, LEFT, RIGHT, TOP = 760, 30, 18, 150, 110, 64
COLOURS = ("#2f6fb3", "#e08a2e")  # this run, the one it is compared with; told apart in grey too
INK = "#222222"


@dataclass(frozen=True)
class Bar:
    """One bar: what it stands for, its length, its words, and whose it is."""

    label: str
    value: float
    text: str
    run: int


def draw(results: Sequence[Result], file: Path) -> None:
    """Write the chart in the format that the file's name ends in.

    Raises:
        StateError: the name has another ending, or the file cannot be written.
    """
    title = f"{results[0].model} on {results[0].machine.board}"
    sections = [("latency, ms (p50)", list(_stages(results))), ("frames a second", list(_rates(results)))]
    sections.append(("threads, ms (p50)", list(_threads(results))))
    try:
        if file.suffix.lower() == ".svg":
            file.write_text(_svg(title, sections), encoding="utf-8")
        elif file.suffix.lower() == ".png":
            good, png = cv2.imencode(".png", _pixels(title, sections))
            assert good
            file.write_bytes(png.tobytes())
        else:
            raise StateError(f"{file} ends neither in .svg nor in .png; name a chart that does.")
    except OSError as error:
        raise StateError(f"{file} cannot be written: {error.strerror or error}.") from error


Sections = Sequence[tuple[str, list[Bar]]]


def _stages(results: Sequence[Result]) -> Iterator[Bar]:
    for stage in STAGES:
        for run, result in enumerate(results):
            value = result.stages[stage].p50
            yield Bar(stage if run == 0 else "", value, f"{value:.2f} ms", run)


def _rates(results: Sequence[Result]) -> Iterator[Bar]:
    for name in ("model alone", "sustained"):
        for run, result in enumerate(results):
            value = result.model_fps if name == "model alone" else result.sustained_fps
            yield Bar(name if run == 0 else "", value, f"{value:.1f} fps", run)


def _threads(results: Sequence[Result]) -> Iterator[Bar]:
    for run, result in enumerate(results):
        for count in result.thread_counts:
            best = ", best" if count.threads == result.best_threads else ""
            yield Bar(f"{count.threads} threads", count.p50_ms, f"{count.p50_ms:.2f} ms{best}", run)


def _places(sections: Sections) -> Iterator[tuple[int, str, Bar | None, float]]:
    """(y, section title, bar, length in pixels): what both formats draw."""
    y = TOP
    for name, bars in sections:
        yield y, name, None, 0.0
        y += ROW
        longest = max(bar.value for bar in bars) or 1.0
        for bar in bars:
            yield y, "", bar, max(1.0, (WIDTH - LEFT - RIGHT) * bar.value / longest)
            y += ROW
        y += ROW // 2


def _height(sections: Sections) -> int:
    return TOP + sum(ROW * (len(bars) + 1) + ROW // 2 for _, bars in sections)


def _svg(title: str, sections: Sections) -> str:
    height = _height(sections)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        f' font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="20" y="32" font-size="17" font-weight="bold">{escape(title)}</text>',
    ]
    for y, name, bar, length in _places(sections):
        if bar is None:
            parts.append(f'<text x="20" y="{y + BAR}" font-weight="bold">{escape(name)}</text>')
            continue
        parts.append(f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(bar.label)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[bar.run]}"/>')
        parts.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 14}">{escape(bar.text)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _pixels(title: str, sections: Sections) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = np.full((_height(sections), WIDTH, 3), 255, np.uint8)
    _write(picture, title, 20, 32, 0.6)
    for y, name, bar, length in _places(sections):
        if bar is None:
            _write(picture, name, 20, y + BAR, 0.5)
            continue
        width = cv2.getTextSize(bar.label, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0]
        _write(picture, bar.label, LEFT - 10 - width, y + 14, 0.42)
        cv2.rectangle(picture, (LEFT, y), (LEFT + round(length), y + BAR), _bgr(COLOURS[bar.run]), cv2.FILLED)
        _write(picture, bar.text, LEFT + round(length) + 6, y + 14, 0.42)
    return picture


def _write(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], text: str, x: int, y: int, size: float) -> None:
    # OpenCV's fonts are ASCII.
    plain = text.encode("ascii", "replace").decode("ascii")
    cv2.putText(picture, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, _bgr(INK), 1, cv2.LINE_AA)


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return blue, green, red
