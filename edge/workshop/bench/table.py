"""A result for people, in 80 columns; two of them side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edge.workshop.bench.result import STAGES, Comparison, Condition, Result

WIDTH = 80
BAR = 24  # of a thread count


def table(result: Result) -> str:
    """Everything that one run found."""
    return "\n".join(
        [*_warnings(result), *_head(result), "", *_stages(result), "", *_rates(result), "", *_bars(result)]
    )


def comparison(old: Result, new: Result) -> str:
    """Two runs side by side; the last column says what became of it."""
    lines = [*_warnings(new)]
    if old.strained:
        lines.append("THROTTLED: the older run was; do not compare with it.")
    lines += [f"{'':20}{'before':>18}{'now':>18}{'now/before':>14}", "─" * 70]
    for name, value in (("model", lambda r: r.model), ("board", lambda r: r.machine.board), ("torch", _torch)):
        lines.append(f"{name:20}{_cut(value(old), 17):>18}{_cut(value(new), 17):>18}")
    for name, unit, digits, number in _numbers():
        before, now = number(old), number(new)
        times = f"{now / before:.2f} ×" if before else "–"
        lines.append(f"{name:20}{before:>14.{digits}f} {unit:3}{now:>14.{digits}f} {unit:3}{times:>14}")
    return "\n".join(line.rstrip() for line in lines)


def compared(old: Result, new: Result) -> Result:
    """The new run with the same comparison, for machines."""
    numbers = ((name, number(old), number(new)) for name, _, _, number in _numbers())
    times = {name: round(now / before, 3) for name, before, now in numbers if before}
    older = old.model_copy(update={"comparison": None})
    return new.model_copy(update={"comparison": Comparison(older=older, now_over_before=times)})


def _torch(result: Result) -> str:
    return result.machine.torch


def _numbers() -> Iterator[tuple[str, str, int, Callable[[Result], float]]]:
    yield "cold start", "s", 2, lambda r: r.cold_start_s
    yield "import torch alone", "s", 2, lambda r: r.import_torch_s
    for stage in STAGES:
        yield f"{stage} p50", "ms", 2, lambda r, stage=stage: r.stages[stage].p50  # type: ignore[misc]
    yield "inference p99", "ms", 2, lambda r: r.stages["inference"].p99
    yield "model alone", "fps", 1, lambda r: r.model_fps
    yield "sustained", "fps", 1, lambda r: r.sustained_fps
    yield "from memory", "fps", 1, lambda r: r.from_memory_fps
    yield "peak memory", "MB", 0, lambda r: r.peak_memory_mb
    yield "steady memory", "MB", 0, lambda r: r.steady_memory_mb


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
    yield _cut(f"torch {machine.torch}, engine {machine.engine}, {_threads(result.threads)}")
    if machine.gpu:
        yield _cut(f"on the GPU: {machine.gpu}")
    yield _cut(f"torch is built with {machine.torch_build}")
    yield f"before: {_felt(result.before)}; after: {_felt(result.after)}"


def _felt(condition: Condition) -> str:
    if condition.temperature_celsius is None:
        return f"load {condition.load:.1f}"
    return f"{condition.temperature_celsius:.0f} °C, load {condition.load:.1f}"


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
    imported = f"`import torch` alone takes {result.import_torch_s:.2f} s"
    yield f"cold start  {result.cold_start_s:9.2f} s to the first label; {imported}"
    yield f"memory      {result.steady_memory_mb:9.0f} MB steady, {result.peak_memory_mb:.0f} MB at its peak"


def _bars(result: Result) -> Iterator[str]:
    slowest = max(count.p50_ms for count in result.thread_counts)
    for count in result.thread_counts:
        bar = "█" * max(1, round(BAR * count.p50_ms / slowest))
        best = "  best" if count.threads == result.best_threads else ""
        yield f"{_threads(count.threads):12}{count.p50_ms:9.2f} ms  {bar:{BAR}}{best}".rstrip()


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def _cut(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
