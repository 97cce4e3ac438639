"""Judge an INT8 model against the FP32 network that it was made from, on the same buffers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from edge.errors import BundleError
from edge.events import Probabilities
from edge.export.fold import FloatNetwork
from edge.vision.bundle import Agreement
from edge.vision.torch_compat import known_deprecations, trace_script

_RUNS = 15
_WARM_UP = 3  # TorchScript's profiling executor settles after two calls
MIN_CORRELATION = 0.9  # of the golden photo's logits; 0.98 and more is what the recipe reaches
TIE = 0.8  # 0.2 in the logits: about what INT8 adds to the difference between two of them

Model = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Latency:
    """Median milliseconds of one inference, without preprocessing, on `threads` threads."""

    int8_ms: float
    fp32_ms: float
    threads: int


def measure_latency(int8: Model, network: FloatNetwork, example: torch.Tensor) -> Latency:
    """Both as TorchScript, one after the other in this process."""
    fp32 = trace_script(network, example)
    return Latency(_median_ms(int8, example), _median_ms(fp32, example), torch.get_num_threads())


def _median_ms(model: Model, example: torch.Tensor) -> float:
    times = []
    with known_deprecations(), torch.inference_mode():
        for _ in range(_WARM_UP + _RUNS):
            start = time.perf_counter()
            model(example)
            times.append(time.perf_counter() - start)
    return round(statistics.median(times[_WARM_UP:]) * 1e3, 2)


def correlation(int8: torch.Tensor, fp32: torch.Tensor) -> float:
    """Of the logits behind two sets of probabilities, each (classes,): a softmax only takes a constant from them."""
    ours, theirs = (p.double().clamp_min(1e-30).log() for p in (int8, fp32))
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    return float(ours @ theirs / (ours.norm() * theirs.norm()).clamp_min(1e-12))


def verify(probabilities: Probabilities, network: FloatNetwork, example: torch.Tensor) -> None:
    """Hold INT8's answer to the golden photo against FP32's.

    Raises:
        BundleError: INT8 does not say what FP32 says.
    """
    with torch.inference_mode():
        expected = network(example)[0]
    found = correlation(torch.from_numpy(probabilities), expected)
    first, other = int(expected.argmax()), int(probabilities.argmax())
    wrong = ""
    if first != other:
        wrong = (
            f"FP32's first class {first} has {probabilities[first] * 100:.1f} % there and class {other} has"
            f" {probabilities[other] * 100:.1f} %"
        )
    elif not found >= MIN_CORRELATION:
        wrong = f"the logits' correlation is {found:.3f}, and {MIN_CORRELATION} is the least"
    if wrong:
        raise BundleError(
            f"INT8 does not follow FP32 on the golden photo ({wrong}); find the ranges on photos with --calibrate DIR,"
            " or use other weights."
        )


def measure_agreement(
    int8: Model, network: FloatNetwork, buffers: Iterable[torch.Tensor], on: Literal["photos", "shipped"]
) -> Agreement:
    """How often both put the same class first, and how far apart their confidences in FP32's first class are.

    Where FP32 is of two minds any rounding decides, and a small sample would judge that; so `top1_or_tie` takes a
    class for FP32's where FP32 itself gives it `TIE` of what it gives its first.
    """
    same, followed, difference, photos, alike = 0, 0, 0.0, 0, 0.0
    with known_deprecations(), torch.inference_mode():
        for buffer in buffers:
            expected, answer = network(buffer)[0], int8(buffer)[0]
            first, said = int(expected.argmax()), int(answer.argmax())
            same += said == first
            followed += bool(expected[said] >= TIE * expected[first])
            difference += abs(float(expected[first] - answer[first])) * 100
            alike += correlation(answer, expected)
            photos += 1
    return Agreement(
        on=on,
        photos=photos,
        top1=round(100 * same / photos, 2),
        top1_or_tie=round(100 * followed / photos, 2),
        confidence_difference=round(difference / photos, 2),
        correlation=round(alike / photos, 4),
    )


def refuse_below(least: float, agreement: Agreement) -> None:
    """Refuse an INT8 model that says something else than FP32 too often.

    Args:
        least: percent of `top1_or_tie`.
        agreement: as measured.

    Raises:
        BundleError: it agrees on less.
    """
    found = agreement.top1_or_tie
    if found is None or not found >= least:
        where = "photos" if agreement.on == "photos" else "views of the shipped photos"
        raise BundleError(
            f"INT8 agrees with FP32 on {found:.1f} % of {agreement.photos} {where}, and {least:g} % are the least; find"
            " the ranges on photos with --calibrate DIR, use other weights, or accept it with --min-agreement."
        )
