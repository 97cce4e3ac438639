"""What `export` reports of a new bundle: a table for people, JSON for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.vision.manifest import Agreement, Manifest
from edge.workshop.export.judge.agreement import Latency, describe_pictures
from edge.workshop.export.judge.limits import ENOUGH_PHOTOS, FEW_CLASSES, MIN_CORRELATION

WIDTH = 80  # of a terminal


@dataclass(frozen=True, slots=True)
class Exported:
    """A new bundle, and how it compares with the FP32 network that it was made from."""

    directory: Path
    manifest: Manifest
    agreement: Agreement
    latency: Latency
    model_bytes: int
    fp32_bytes: int
    classes: int = 1000  # of the network

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON types; the key `int8` stands for FP16 too."""
        quantization = self.manifest.quantization
        return {
            "bundle": str(self.directory),
            "target": self.manifest.target,
            "engine": self.manifest.engine.model_dump(include={"name", "options"}),
            "ranges": quantization.ranges if quantization else "none",
            "size_bytes": {"int8": self.model_bytes, "fp32": self.fp32_bytes},
            "latency_ms": {"int8": self.latency.int8_ms, "fp32": self.latency.fp32_ms},
            "threads": self.latency.threads,
            "published_top1": self.manifest.weights.top1,
            "instead_of": self.manifest.weights.instead_of,
            "agreement": self.agreement.model_dump(),
            "measured": self.manifest.measured.model_dump() if self.manifest.measured else None,
        }

    def to_table(self) -> str:
        """A table for people, a few aligned lines."""
        latency, agreement = self.latency, self.agreement
        faster = f"{_speed(latency)}, {latency.threads} threads"
        rows = [
            ("", self.manifest.precision.upper(), "FP32", ""),
            ("size", f"{self.model_bytes / 1e6:.1f} MB", f"{self.fp32_bytes / 1e6:.1f} MB", ""),
            ("latency", f"{latency.int8_ms:.1f} ms", f"{latency.fp32_ms:.1f} ms", faster),
        ]
        photos = describe_pictures(agreement)
        if agreement.on == "shipped":
            photos += " (--photos DIR: on yours)"
        elif agreement.on == "both":
            photos += f", because fewer than {ENOUGH_PHOTOS} say little"
        rows += [
            ("top-1 agreement", f"{agreement.top1:.1f} %", "", f"on {photos}"),
            ("… or a near tie", f"{agreement.top1_or_tie:.1f} %", "", "what FP32 gives nearly as much counts too"),
            ("correlation of logits", f"{agreement.correlation:.3f}", "", f"{MIN_CORRELATION} is the least"),
            ("confidence differs by", f"{agreement.confidence_difference:.1f} points", "", "on average"),
        ]
        if agreement.classes is not None and agreement.classes < min(FEW_CLASSES, self.classes):
            one = "one class" if agreement.classes == 1 else f"{agreement.classes} classes"
            rows[3] = (*rows[3][:3], f"{rows[3][3]}; FP32 puts only {one} first, so it proves little")
        if (published := self.manifest.weights.top1) is None:
            rows.append(("accuracy", "–", "–", "unproven: `edge-classifier evaluate` measures it"))
        else:
            rows.append(("accuracy", "–", f"{published:.1f} %", "published top-1 on ImageNet"))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = (f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows)
        return "\n".join([*lines, *self._engines()])

    def _engines(self) -> Iterator[str]:
        """A table of the engines that were compared; nothing if it was only one."""
        measured = self.manifest.measured
        if measured is None or len(measured.candidates) < 2:
            return
        threads = f"{measured.threads} thread{'s' if measured.threads > 1 else ''}"
        yield ""
        yield f"engines on this machine, an inference on {threads}:"
        for one in sorted(measured.candidates, key=lambda one: one.ms or float("inf")):
            ms = "–" if one.ms is None else f"{one.ms:.1f} ms"
            yield _row(f"{one!s:<20}{ms:>11}  ", one.reason or "kept")


def _row(columns: str, text: str) -> str:
    """The columns and a sentence behind them, which goes on below itself where it does not fit a terminal."""
    lines = textwrap.wrap(text, WIDTH - len(columns), break_long_words=False, break_on_hyphens=False)
    return columns + ("\n" + " " * len(columns)).join(lines)


def _speed(latency: Latency) -> str:
    times = latency.fp32_ms / latency.int8_ms
    if 0.95 < times < 1.05:
        return "as fast"
    return f"{times:.1f} × faster" if times > 1 else f"{1 / times:.1f} × slower"
