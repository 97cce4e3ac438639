"""A bar chart of one or two results, as SVG or PNG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.workshop.bench.result import STAGES, Result
from edge.workshop.charts import Canvas

WIDTH, ROW, BAR, LEFT, RIGHT, TOP = 760, 30, 18, 150, 110, 64
COLOURS = ("#2f6fb3", "#e08a2e")  # this run, the one it is compared with; told apart in grey too


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
    sections = [("latency, ms (p50)", list(_stages(results))), ("frames a second", list(_rates(results)))]
    sections.append(("threads, ms (p50)", list(_threads(results))))
    canvas = Canvas(WIDTH, _height(sections))
    canvas.text(20, 32, f"{results[0].model} on {results[0].machine.board}", size=17, bold=True)
    for y, name, bar, length in _places(sections):
        if bar is None:
            canvas.text(20, y + BAR, name, bold=True)
            continue
        canvas.text(LEFT - 10, y + 14, bar.label, anchor="end")
        canvas.rectangle(LEFT, y, length, BAR, COLOURS[bar.run])
        canvas.text(LEFT + length + 6, y + 14, bar.text)
    canvas.save(file)


Sections = Sequence[tuple[str, list[Bar]]]


def _stages(results: Sequence[Result]) -> Iterator[Bar]:
    for stage in STAGES:
        for run, result in enumerate(results):
            value = result.stages[stage].p50
            yield Bar(stage if run == 0 else "", value, f"{value:.2f} ms", run)


def _rates(results: Sequence[Result]) -> Iterator[Bar]:
    rates = {"model alone": "model_fps", "sustained": "sustained_fps", "from memory": "from_memory_fps"}
    for name, field in rates.items():
        for run, result in enumerate(results):
            value: float = getattr(result, field)
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
