"""Formats a result as text of 80 columns, or two results side by side."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from edge.workshop.bench.platforms import platforms
from edge.workshop.bench.result import STAGES, Comparison, Condition, InstalledBundle, Result

WIDTH = 80
BAR = 24  # characters of the longest bar


def table(result: Result) -> str:
    """Everything that one run measured."""
    return "\n".join(
        [
            *(*_warnings(result), *_head(result), "", *_stages(result), "", *_rates(result), "", *_bars(result), ""),
            *platforms(result),
            *(["", *installed_table(result.installed)] if result.installed else []),
        ]
    )


def comparison(old: Result, new: Result) -> str:
    """Two runs side by side; the last column is the ratio of the new figure to the old one."""
    lines = [*_warnings(new)]
    if old.strained:
        lines.append("THROTTLED: the older run was; do not compare with it.")
    for name, run in (("before", old), ("now", new)):
        machine = run.machine
        text = f"{name:8}{run.model}, {machine.engine}, {_threads(run.threads)}, on {machine.board}, {machine.library}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * 8)
    lines += ["", f"{'':20}{'before':>18}{'now':>18}{'now/before':>14}", "─" * 70]
    figures = _figures(new)
    for name, (before, unit, digits) in _figures(old).items():
        if name not in figures:  # measured in one of the runs only
            continue
        after = figures[name][0]
        ratio = f"{after / before:.2f} ×" if before else "–"
        lines.append(f"{name:20}{before:>14.{digits}f} {unit:3}{after:>14.{digits}f} {unit:3}{ratio:>14}")
    if new.installed:
        lines += ["", *installed_table(new.installed)]
    return "\n".join(line.rstrip() for line in lines)


def compared(old: Result, new: Result) -> Result:
    """The new run with the comparison in it, for `--json`."""
    figures = _figures(new)
    both = [(name, before) for name, (before, _, _) in _figures(old).items() if before and name in figures]
    ratios = {name: round(figures[name][0] / before, 3) for name, before in both}
    older = old.model_copy(update={"comparison": None})
    return new.model_copy(update={"comparison": Comparison(older=older, now_over_before=ratios)})


def _figures(result: Result) -> dict[str, tuple[float, str, int]]:
    """The figures that are compared: number, unit, and digits after the point."""
    return {
        "cold start": (result.cold_start_s, "s", 2),
        "import library alone": (result.import_library_s, "s", 2),
        **{f"{stage} p50": (result.stages[stage].p50, "ms", 2) for stage in STAGES},
        "inference p99": (result.stages["inference"].p99, "ms", 2),
        "model alone": (result.model_fps, "fps", 1),
        "sustained": (result.sustained_fps, "fps", 1),
        "from memory": (result.from_memory_fps, "fps", 1),
        "peak memory": (result.peak_memory_mb, "MB", 0),
        "steady memory": (result.steady_memory_mb, "MB", 0),
        **({"batches": (result.batch_per_s, "fps", 1)} if result.batch_per_s else {}),
        **({"upload to answer": (alone, "ms", 2)} if (alone := _upload_ms(result)) else {}),
    }


def _upload_ms(result: Result) -> float | None:
    return result.upload.alone.mean if result.upload and result.upload.alone else None


def _warnings(result: Result) -> Iterator[str]:
    for when, condition in (("before", result.before), ("after", result.after), ("during", result.during)):
        if condition.under_voltage:
            what = "under-voltage or over-current" if when == "during" else "under-voltage"
            yield f"THROTTLED: {what} {when} the run; use the board's own power supply, and run again."
            return
        if condition.throttled:
            yield f"THROTTLED: the processor was slowed down {when} the run; cool it, and run again."
            return
    if result.before.load > result.machine.processors:
        yield f"BUSY: other processes used the processors (load {result.before.load:.1f}); stop them, run again."


def _head(result: Result) -> Iterator[str]:
    machine = result.machine
    yield f"{result.model} on {machine.board}"
    yield _cut(f"{machine.cpu}, {machine.processors} CPUs: {' '.join(machine.cpu_features) or 'no INT8 features'}")
    yield _cut(f"engine {machine.engine}, {_threads(result.threads)}")
    yield _cut(machine.library)
    memory = "" if machine.memory_mb is None else f", {machine.memory_mb / 1000:.1f} GB"
    clock = "" if machine.max_mhz is None else f", at most {machine.max_mhz:.0f} MHz ({machine.governor or 'fixed'})"
    if machine.kernel:
        yield _cut(f"{machine.system or 'Linux'}, kernel {machine.kernel}{memory}{clock}")
    if machine.gpu:
        yield _cut(f"on the GPU: {machine.gpu}")
    yield f"before: {_condition(result.before)}; after: {_condition(result.after)}"


def _condition(condition: Condition) -> str:
    celsius = "" if condition.temperature_celsius is None else f"{condition.temperature_celsius:.0f} °C, "
    mhz = "" if condition.mhz is None else f"{condition.mhz:.0f} MHz, "
    return f"{celsius}{mhz}load {condition.load:.1f}"


def _stages(result: Result) -> Iterator[str]:
    yield f"{'stage, ms':12}{'p50':>9}{'p95':>9}{'p99':>9}"
    yield "─" * WIDTH
    for stage in STAGES:
        one = result.stages[stage]
        yield _cut(f"{stage:12}{one.p50:9.2f}{one.p95:9.2f}{one.p99:9.2f}  {one.what}")


def _rates(result: Result) -> Iterator[str]:
    yield f"model alone {result.model_fps:9.1f} fps"
    yield f"sustained   {result.sustained_fps:9.1f} fps, every stage overlapped: {result.of_model_percent:.0f} % of it"
    without = f"all but capture and decoding: {result.from_memory_percent:.0f} % of it"
    yield f"from memory {result.from_memory_fps:9.1f} fps, {without}"
    yield _cut(f"frames      {result.captured}")
    library = re.split(r"\s+\d", result.machine.library)[0]  # without its version
    imported = f"{result.import_library_s:.2f} s to import {library}"
    yield _cut(f"cold start  {result.cold_start_s:9.2f} s to the first label, {imported}")
    yield f"memory      {result.steady_memory_mb:9.0f} MB steady, {result.peak_memory_mb:.0f} MB at its peak"


def _bars(result: Result) -> Iterator[str]:
    slowest = max(count.p50_ms for count in result.thread_counts)
    for count in result.thread_counts:
        bar = "█" * max(1, round(BAR * count.p50_ms / slowest))
        best = "  best" if count.threads == result.best_threads else ""
        busy = "" if count.busy_p50_ms is None else f", busy{count.busy_p50_ms:9.2f} ms"
        yield f"{_threads(count.threads):12}{count.p50_ms:9.2f} ms{busy}  {bar:{BAR}}{best}".rstrip()


def installed_table(bundles: Sequence[InstalledBundle]) -> Iterator[str]:
    """The comparison of the installed bundles, in their order."""
    yield f"{'installed (* in use)':33}{'engine':19}{'ms':>8}{'MB':>6}{'FP32':>7}{'golden':>7}"
    yield "─" * WIDTH
    for one in bundles:
        name = f"{'*' if one.current else ' '} {one.name}"
        ms = "–" if one.p50_ms is None else f"{one.p50_ms:.2f}"
        memory_mb = "–" if one.memory_mb is None else f"{one.memory_mb:.0f}"
        agreement = "–" if one.agreement is None else f"{one.agreement:.1f}%"
        golden = "yes" if one.golden else "–"
        yield f"{name:32.32} {one.engine:19.19}{ms:>8}{memory_mb:>6}{agreement:>7}{golden:>7}"
        if one.reason:
            yield from textwrap.wrap(one.reason, WIDTH, initial_indent="    ", subsequent_indent="    ")
    yield "ms: median of one inference, in turn with the others; MB: a process with this"
    yield "bundle alone; FP32: photos with FP32's label when it was made; golden: it"
    yield "answers its golden photo as it did then"


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def _cut(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
