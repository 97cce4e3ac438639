"""The tables of `peers.py` as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.peers import Result

BUSY = " beside busy loops"  # added to the kind of a measurement
_BUSY = (f"infer{BUSY}", f"classify{BUSY}")
HEAD = """\
# Benchmarks

For those who compare inference engines: the speed of this project's INT8 TorchScript bundle next to other engines, with
the same ResNet-18 weights, photos and number of threads, in the same run. These figures are from x86. For a board, run
`edge-classifier bench` on it ([boards.md](boards.md)); `scripts/test-arm64` counts ARM64 instructions and memory
traffic.

{where}.

## Model alone
From one prepared input to the scores. `×` is the engine's time as a multiple of this project's: the median of the
ratios of the interleaved rounds. *Fastest* is the shortest single measurement. *CPU* is processor time in all
threads of the process: other work on the machine hardly changes it, but it includes the time that an engine spins
while it waits for its other threads.

{model}

## Pixels in, label out
From the same photos, decoded, to a class index. Each engine has its usual preprocessing: PIL and torchvision's
transforms for PyTorch, ncnn's own for ncnn, OpenCV and NumPy for the others, one resize into a uint8 buffer for
this project.

{whole}

{beside}Memory is the resident memory of the engine's process with its runtime, the model and 20 photos, after the run.
Accuracy is top-1 on {photos} labelled photos. *Agreement* is with the top-1 of PyTorch's FP32 after PIL and
torchvision's transforms, so it compares an engine's preprocessing as well as its INT8. The effect of INT8 alone in this
project, compared with its own FP32 on the same pixels, is in [architectures.md](architectures.md).

## How to repeat it
```
./install.sh --dev
.venv/bin/pip install --no-deps -r benchmarks/requirements.txt
.venv/bin/python -m benchmarks.peers --weights resnet18.pth --photos LABELLED --frames FULL-SIZE \\
    --calibration PHOTOS --write docs/benchmarks.md
```
`LABELLED` holds photos and a `labels.csv` (`file,index`). Each engine runs in a separate process, on the same
processors. `benchmarks/networks.py` shows how each network was converted and quantized, and `benchmarks/engines.py` how
it is called. Nothing else should run at the same time, because an engine with two threads waits for the slower of its
processors; where other work cannot be stopped, begin the command with `chrt -f 10` and add `--busy 0`. Without
`--busy 0` the engines are measured beside busy loops too, and `--arrangements` compares this project's arrangements of
threads. ExecuTorch and ncnn are made for ARM; they are not known for their x86 kernels.
"""


BESIDE = """\
## Beside busy loops
The same in turn with the rounds above, while other processes compute in a loop on the same processors, as other
programs on a box would. An engine that spins while it waits for its threads takes processor time that others want.

{table}

"""


def markdown(results: Sequence[Result], truth: dict[str, int], ours: str, reference: str, where: str) -> str:
    """Both tables with their explanations."""
    measured = [result for result in results if not result.failure]
    by_name = {result.name: result for result in measured}
    base, fp32 = by_name[ours], by_name.get(reference)
    model = ["| engine | version | median ms | × | fastest ms | CPU ms | CPU × | memory MB | top-1 | agreement |"]
    whole = ["| engine | median ms | × | fastest ms | CPU ms | CPU × |"]
    model.append("|---|---|" + "--:|" * 8)
    whole.append("|---|" + "--:|" * 5)
    for result in sorted(measured, key=lambda one: one.cpu_ms("infer")):
        right = sum(truth[photo] == index for photo, index in result.top.items()) / len(result.top)
        agreement = _agreement(result.top, fp32.top) if fp32 else "–"
        cells = [_name(result, base), result.version, _times(result, base, "infer"), f"{result.resident_mb:.0f}"]
        model.append(f"| {' | '.join([*cells, f'{right:.1%}', agreement])} |")
    for result in sorted(measured, key=lambda one: one.cpu_ms("classify")):
        whole.append(f"| {_name(result, base)} | {_times(result, base, 'classify')} |")
    model += [f"| {result.name} | | not measured: {result.failure} |" for result in results if result.failure]
    beside = BESIDE.format(table=_beside(measured, base)) if _BUSY[0] in base.rounds else ""
    tables = {"model": "\n".join(model), "whole": "\n".join(whole), "beside": beside}
    return HEAD.format(where=where, photos=len(base.top), **tables)


def arrangements(results: Sequence[Result]) -> str:
    """This project's arrangements of threads, idle and beside busy loops; the first of `results` is the product's."""
    base, names = results[0], {"infer": "model alone", _BUSY[0]: "beside busy loops"}
    kinds = [kind for kind in names if kind in base.rounds]
    header = "".join(f" {names[kind]}, median ms | × | CPU ms |" for kind in kinds)
    rows = [f"| |{header}", "|---|" + "--:|" * 3 * len(kinds)]
    for result in results:
        rows.append(f"| {_name(result, base)} | {' | '.join(_brief(result, base, kind) for kind in kinds)} |")
    return "\n".join(rows)


def _beside(results: Sequence[Result], base: Result) -> str:
    rows = ["| engine | model alone, median ms | × | CPU ms | pixels to label, median ms | × | CPU ms |"]
    rows.append("|---|" + "--:|" * 6)
    for result in sorted(results, key=lambda one: one.cpu_ms(_BUSY[0])):
        cells = [_name(result, base), *(_brief(result, base, kind) for kind in _BUSY)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _brief(result: Result, base: Result, kind: str) -> str:
    return f"{result.median_ms(kind):.1f} | {result.ratio(kind, base):.2f} | {result.cpu_ms(kind):.1f}"


def _agreement(mine: dict[str, int], reference: dict[str, int]) -> str:
    return f"{sum(reference[photo] == index for photo, index in mine.items()) / len(mine):.1%}"


def _name(result: Result, base: Result) -> str:
    return f"**{result.name}**" if result is base else result.name


def _times(result: Result, base: Result, kind: str) -> str:
    cells = (
        (result.median_ms(kind), 1),
        (result.ratio(kind, base), 2),
        (result.fastest_ms(kind), 1),
        (result.cpu_ms(kind), 1),
        (result.cpu_ms(kind) / base.cpu_ms(kind), 2),
    )
    return " | ".join(f"{value:.{digits}f}" for value, digits in cells)
