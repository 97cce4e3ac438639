"""The canvas that charts are drawn on: rectangles, lines and text, saved as SVG or PNG.

The charts themselves are in `bench/chart.py` and `evaluate/report.py`.

A few dozen shapes need no plotting library: matplotlib alone would be a fifth of what torch's CPU build takes on a
Pi's card, for a picture that is drawn once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import StateError

INK = "#222222"
_PNG_SCALE = 0.42 / 13  # of OpenCV's font, to the height of SVG's in pixels

Anchor = Literal["start", "middle", "end"]
Picture = npt.NDArray[np.uint8]


def check_name(file: Path) -> None:
    """Refuse a name that a sheet cannot be saved under, before there is work to lose.

    Raises:
        StateError: it ends in neither .svg nor .png.
    """
    if file.suffix.lower() not in (".svg", ".png"):
        raise StateError(f"{file} ends neither in .svg nor in .png; name a chart that does.")


@dataclass(frozen=True, slots=True)
class _Rectangle:
    x: float
    y: float
    width: float
    height: float
    colour: str

    def svg(self) -> str:
        return (
            f'<rect x="{self.x:g}" y="{self.y:g}" width="{self.width:.1f}" height="{self.height:.1f}"'
            f' fill="{self.colour}"/>'
        )

    def draw(self, picture: Picture) -> None:
        corner = (round(self.x + self.width), round(self.y + self.height))
        cv2.rectangle(picture, (round(self.x), round(self.y)), corner, _bgr(self.colour), cv2.FILLED)


@dataclass(frozen=True, slots=True)
class _Line:
    start: tuple[float, float]
    end: tuple[float, float]
    colour: str

    def svg(self) -> str:
        (x1, y1), (x2, y2) = self.start, self.end
        return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{self.colour}"/>'

    def draw(self, picture: Picture) -> None:
        first, last = ((round(x), round(y)) for x, y in (self.start, self.end))
        cv2.line(picture, first, last, _bgr(self.colour), 1, cv2.LINE_AA)


@dataclass(frozen=True, slots=True)
class _Text:
    x: float
    y: float
    text: str
    size: int
    anchor: Anchor
    bold: bool

    def svg(self) -> str:
        style = (' font-weight="bold"' if self.bold else "") + (f' font-size="{self.size}"' if self.size != 13 else "")
        anchor = "" if self.anchor == "start" else f' text-anchor="{self.anchor}"'
        return f'<text x="{self.x:.1f}" y="{self.y:g}"{anchor}{style}>{escape(self.text)}</text>'

    def draw(self, picture: Picture) -> None:
        # OpenCV's fonts are ASCII.
        plain = self.text.encode("ascii", "replace").decode("ascii")
        scale = self.size * _PNG_SCALE * (1.1 if self.bold else 1)
        width = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]
        left = self.x - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        place = (round(left), round(self.y))
        cv2.putText(picture, plain, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _bgr(INK), 1, cv2.LINE_AA)


@dataclass
class Canvas:
    """What was drawn so far; coordinates in pixels from the top left."""

    width: int
    height: int
    _shapes: list[_Rectangle | _Line | _Text] = field(default_factory=list)

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled one, from its top left."""
        self._shapes.append(_Rectangle(x, y, width, height, colour))

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> None:
        """A thin one."""
        self._shapes.append(_Line(start, end, colour))

    def text(
        self, x: float, y: float, text: str, *, size: int = 13, anchor: Anchor = "start", bold: bool = False
    ) -> None:
        """Words whose baseline is at `y`."""
        self._shapes.append(_Text(x, y, text, size, anchor, bold))

    def save(self, file: Path) -> None:
        """Write the sheet in the format that the file's name ends in.

        Raises:
            StateError: the name has another ending, or the file cannot be written.
        """
        check_name(file)
        try:
            if file.suffix.lower() == ".svg":
                file.write_text(self._svg(), encoding="utf-8")
            else:
                good, png = cv2.imencode(".png", self._pixels())
                assert good
                file.write_bytes(png.tobytes())
        except OSError as error:
            raise StateError(f"{file} cannot be written: {error.strerror or error}.") from error

    def _svg(self) -> str:
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}"'
            f' viewBox="0 0 {self.width} {self.height}" font-family="sans-serif" font-size="13" fill="{INK}">',
            f'<rect width="{self.width}" height="{self.height}" fill="white"/>',
            *(shape.svg() for shape in self._shapes),
        ]
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _pixels(self) -> Picture:
        picture = np.full((self.height, self.width, 3), 255, np.uint8)
        for shape in self._shapes:
            shape.draw(picture)
        return picture


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return blue, green, red
