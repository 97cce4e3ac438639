"""Draws the charts of `bench --plot` (bars) and `evaluate --plot` (a reliability diagram), as SVG or PNG.

A few dozen shapes need no plotting library: matplotlib alone would be a fifth of what torch's CPU build takes on a
Pi's card.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import cv2
import numpy as np

from edge.errors import StateError
from edge.workshop.bench.result import STAGES, Result
from edge.workshop.evaluate.accuracy import BINS, Evaluation

INK, BLUE, ORANGE, GREY = "#222222", "#2f6fb3", "#e08a2e", "#bbbbbb"  # blue and orange differ in greyscale too
TITLE, TEXT, SMALL = 17, 13, 11  # font sizes in pixels

_Bar = tuple[str, float, str, str]  # label, value, the value as text, colour


def check_name(file: Path) -> None:
    """Check the name of a chart, before the work whose result it shows.

    Raises:
        StateError: the name ends neither in .svg nor in .png.
    """
    if file.suffix.lower() not in (".svg", ".png"):
        raise StateError(f"{file} ends neither in .svg nor in .png; name a chart that does.")


def draw_benchmark(results: Sequence[Result], file: Path) -> None:
    """Draw bars for the figures of one result, or of two for comparison.

    Raises:
        StateError: the name ends neither in .svg nor in .png, or the file cannot be written.
    """
    left, top, row, thickness, longest = 150, 64, 30, 18, 500
    stages = {stage: [result.stages[stage].p50 for result in results] for stage in STAGES}
    rates = {
        "model alone": [result.model_fps for result in results],
        "sustained": [result.sustained_fps for result in results],
        "from memory": [result.from_memory_fps for result in results],
    }
    sections = {
        "latency, ms (p50)": list(_bars(stages, "{:.2f} ms")),
        "frames a second": list(_bars(rates, "{:.1f} fps")),
        "threads, ms (p50)": list(_thread_bars(results)),
    }
    canvas = _Canvas(760, top + sum(row * (len(bars) + 1) + row // 2 for bars in sections.values()))
    canvas.text(20, 32, f"{results[0].model} on {results[0].machine.board}", size=TITLE, bold=True)
    if len(results) > 1:
        canvas.text(20, 54, "blue: now, orange: before")
    y = top
    for name, bars in sections.items():
        canvas.text(20, y + thickness, name, bold=True)
        y += row
        most = max(value for _, value, _, _ in bars) or 1.0
        for label, value, text, colour in bars:
            length = max(1.0, longest * value / most)
            canvas.text(left - 10, y + 14, label, anchor="end")
            canvas.rectangle(left, y, length, thickness, colour)
            canvas.text(left + length + 6, y + 14, text)
            y += row
        y += row // 2
    canvas.save(file)


def _bars(figures: Mapping[str, Sequence[float]], text: str) -> Iterator[_Bar]:
    """The bars of each figure's value in one or two results."""
    for name, values in figures.items():
        for label, value, colour in zip((name, ""), values, (BLUE, ORANGE), strict=False):
            yield label, value, text.format(value), colour


def _thread_bars(results: Sequence[Result]) -> Iterator[_Bar]:
    for result, colour in zip(results, (BLUE, ORANGE), strict=False):
        for count in result.thread_counts:
            best = ", best" if count.threads == result.best_threads else ""
            label = "1 thread" if count.threads == 1 else f"{count.threads} threads"
            yield label, count.p50_ms, f"{count.p50_ms:.2f} ms{best}", colour


def draw_reliability(evaluation: Evaluation, file: Path) -> None:
    """Draw the reliability diagram: how often each bin of confidences was right, and how many photos it holds.

    Raises:
        StateError: the name ends neither in .svg nor in .png, or the file cannot be written.
    """
    side, left, top, counts = 400, 70, 70, 90  # the diagram, its place, and the height of the photo counts below it
    bins = evaluation.bins()
    canvas = _Canvas(left + side + 40, top + side + counts + 70)
    bottom, width = top + side, side / BINS
    canvas.text(20, 28, evaluation.model, size=TITLE, bold=True)
    error = f"{len(evaluation.answers)} photos, calibration error {evaluation.calibration_error():.1f} points"
    canvas.text(20, 50, error)
    most = max(part.photos for part in bins)
    for part in bins:
        x, height = left + side * part.low / 100, side * part.right / 100
        canvas.rectangle(x + 2, bottom - height, width - 4, height, BLUE)
        # The mean confidence: above the bar the model is overconfident, inside it underconfident.
        canvas.rectangle(x, bottom - side * part.confidence / 100 - 1, width, 3, ORANGE)
        height = (counts - 30) * part.photos / most
        canvas.rectangle(x + 2, bottom + counts - height, width - 4, height, GREY)
        canvas.text(x + width / 2, bottom + counts - height - 4, str(part.photos), size=SMALL, anchor="middle")
    canvas.line((left, bottom), (left + side, top), GREY)
    for percent in range(0, 101, 20):
        place = side * percent / 100
        canvas.text(left - 8, bottom - place + 4, f"{percent}", size=SMALL, anchor="end")
        canvas.text(left + place, bottom + counts + 16, f"{percent}", size=SMALL, anchor="middle")
    canvas.line((left, top), (left, bottom))
    canvas.line((left, bottom), (left + side, bottom))
    canvas.text(20, top - 8, "right, %", size=SMALL)
    canvas.text(left + side / 2, bottom + counts + 38, "confidence, %; blue: right, orange: sure", anchor="middle")
    canvas.save(file)


class _Canvas:
    """A white page, drawn as SVG and as pixels at once; coordinates are pixels from the top left."""

    def __init__(self, width: int, height: int) -> None:
        self._pixels = np.full((height, width, 3), 255, np.uint8)  # BGR
        self._svg = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="{TEXT}" fill="{INK}">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
        ]

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Draw a filled rectangle; (x, y) is its top left corner."""
        self._svg.append(f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')
        corner = (round(x + width), round(y + height))
        cv2.rectangle(self._pixels, (round(x), round(y)), corner, _bgr(colour), cv2.FILLED)

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> None:
        """Draw a line of one pixel's width."""
        (x1, y1), (x2, y2) = start, end
        self._svg.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}"/>')
        cv2.line(self._pixels, (round(x1), round(y1)), (round(x2), round(y2)), _bgr(colour), 1, cv2.LINE_AA)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = TEXT,
        anchor: Literal["start", "middle", "end"] = "start",
        bold: bool = False,
    ) -> None:
        """Write `text` with its baseline at `y` and its start, middle or end at `x`."""
        style = "" if anchor == "start" else f' text-anchor="{anchor}"'
        style += (' font-weight="bold"' if bold else "") + (f' font-size="{size}"' if size != TEXT else "")
        self._svg.append(f'<text x="{x:.1f}" y="{y:g}"{style}>{escape(text)}</text>')
        plain = text.encode("ascii", "replace").decode("ascii")  # OpenCV's fonts have no other characters
        font, scale = cv2.FONT_HERSHEY_SIMPLEX, size * 0.42 / TEXT * (1.1 if bold else 1)
        width = cv2.getTextSize(plain, font, scale, 1)[0][0]
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        cv2.putText(self._pixels, plain, (round(left), round(y)), font, scale, _bgr(INK), 1, cv2.LINE_AA)

    def save(self, file: Path) -> None:
        check_name(file)
        if file.suffix.lower() == ".svg":
            content = "\n".join([*self._svg, "</svg>\n"]).encode("utf-8")
        else:
            good, png = cv2.imencode(".png", self._pixels)
            assert good
            content = png.tobytes()
        try:
            file.write_bytes(content)
        except OSError as error:
            raise StateError(f"{file} cannot be written: {error.strerror or error}.") from error


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return blue, green, red
