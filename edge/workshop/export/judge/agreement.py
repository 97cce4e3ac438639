"""Judge an INT8 or FP16 model against the FP32 network that it was made from, on the same buffers."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from edge.errors import BundleError
from edge.events import Probabilities
from edge.vision.bundle import Agreement, GoldenClass
from edge.vision.torch_compat import known_deprecations, trace_script
from edge.workshop.export.judge.limits import GOLDEN_MIN_CORRELATION, GOLDEN_MIN_LEAD, MIN_CORRELATION, TIE
from edge.workshop.export.network.float_network import FloatNetwork

_RUNS = 15
_WARM_UP = 3  # TorchScript's profiling executor settles after two calls

Model = Callable[[torch.Tensor], torch.Tensor]
Judged = Literal["INT8", "FP16"]


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
    """Of the logits behind two sets of probabilities, each (classes,)."""
    ours, theirs = _logits(int8), _logits(fp32)
    return float(ours @ theirs / (ours.norm() * theirs.norm()).clamp_min(1e-12))


def _logits(probabilities: torch.Tensor) -> torch.Tensor:
    """Less their mean: a softmax only takes a constant from them."""
    logits = probabilities.double().clamp_min(1e-30).log()
    return logits - logits.mean()


def golden_classes(probabilities: Probabilities) -> tuple[GoldenClass, ...]:
    """The top three, for the manifest.

    Raises:
        BundleError: the first leads by less than GOLDEN_MIN_LEAD, so the photo cannot tell right from wrong.
    """
    order = probabilities.argsort()[::-1][:3]
    confidences = [round(float(probabilities[i]) * 100, 2) for i in order]
    lead = confidences[0] - confidences[1]
    if not lead >= GOLDEN_MIN_LEAD:  # NaN is not
        raise BundleError(
            f"The golden photo's first class leads by {lead:.1f} points only, and {GOLDEN_MIN_LEAD:.0f} are needed to"
            " tell a sound model from a broken one; give another with --golden PHOTO, or better weights."
        )
    return tuple(GoldenClass(index=int(i), confidence=c) for i, c in zip(order, confidences, strict=True))


def verify(probabilities: Probabilities, network: FloatNetwork, example: torch.Tensor, judged: Judged) -> None:
    """Hold the model's answer to the golden photo against FP32's.

    Raises:
        BundleError: it does not say what FP32 says.
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
    elif not found >= GOLDEN_MIN_CORRELATION:
        wrong = f"the logits' correlation is {found:.3f}, and {GOLDEN_MIN_CORRELATION} is the least"
    if wrong:
        raise BundleError(f"{judged} does not follow FP32 on the golden photo ({wrong}); {_remedy(judged)}.")


def measure_agreement(int8: Model, network: FloatNetwork, buffers: Iterable[torch.Tensor], given: int) -> Agreement:
    """How often both put the same class first, and how far apart their confidences in FP32's first class are.

    The correlation is the larger of two: the mean of each picture's correlation, and the correlation over all logits.
    Each alone misjudges some cases: with two classes a near tie's own is 1 or -1, and over all logits one picture with
    wide logits outweighs all others.

    Where FP32's top two are nearly tied, rounding decides, and a small sample would measure that. So `top1_or_tie` also
    accepts a class to which FP32 itself gives at least `TIE` times its first one's confidence.

    Args:
        int8: the model, or FP16.
        network: FP32.
        buffers: each (1, side, side, 3) uint8; at least one.
        given: how many of them, the first ones, are the user's photos; the others are views of shipped ones.
    """
    same, followed, difference, photos = 0, 0, 0.0, 0
    product, ours, theirs, alike, classes = 0.0, 0.0, 0.0, 0.0, set()
    with known_deprecations(), torch.inference_mode():
        for buffer in buffers:
            # What is no number is no answer: it correlates with nothing.
            expected, answer = network(buffer)[0].nan_to_num(), int8(buffer)[0].nan_to_num()
            first, said = int(expected.argmax()), int(answer.argmax())
            same += said == first
            followed += bool(expected[said] >= TIE * expected[first])
            difference += abs(float(expected[first] - answer[first])) * 100
            said_logits, expected_logits = _logits(answer), _logits(expected)
            product += float(said_logits @ expected_logits)
            ours, theirs = ours + float(said_logits.square().sum()), theirs + float(expected_logits.square().sum())
            alike += correlation(answer, expected)
            classes.add(first)
            photos += 1
    return Agreement(
        on="shipped" if not given else "photos" if given == photos else "both",
        photos=photos,
        views=photos - given,
        classes=len(classes),
        top1=round(100 * same / photos, 2),
        top1_or_tie=round(100 * followed / photos, 2),
        confidence_difference=round(difference / photos, 2),
        correlation=round(max(alike / photos, product / max(math.sqrt(ours * theirs), 1e-12)), 4),
    )


def _remedy(judged: Judged, *more: str) -> str:
    """What may help; FP16 has no ranges to find."""
    ways = ["find the ranges on photos with --calibrate DIR"] if judged == "INT8" else []
    ways += ["use other weights", *more]
    return ", ".join([*ways[:-1], f"or {ways[-1]}"]) if len(ways) > 1 else ways[0]


def refuse_below(least: float, agreement: Agreement, judged: Judged) -> None:
    """Refuse a model that says something else than FP32 too often, or whose logits are not FP32's.

    Agreement alone says nothing of a network that puts one class first whatever it sees; the correlation does.

    Args:
        least: percent of `top1_or_tie`; 0 lets any agreement pass, and the correlation counts none the less.
        agreement: as `measure_agreement` found it.
        judged: the model's precision, as the sentence names it.

    Raises:
        BundleError: it agrees on less, or the correlation is below `MIN_CORRELATION`; the sentence says which.
    """
    found, correlated = agreement.top1_or_tie, agreement.correlation
    assert found is not None  # nor the other: only bundles from before they were measured lack them
    assert correlated is not None
    where = f"of {pictures_told(agreement)}"
    wrong, remedy = [], _remedy(judged)
    if not found >= least:
        wrong.append(f"{judged} agrees with FP32 on {found:.1f} % {where}, and {least:g} % are the least")
        remedy = _remedy(judged, "accept it with --min-agreement")
    if not correlated >= MIN_CORRELATION:
        wrong.append(
            f"{judged}'s logits correlate with FP32's by {correlated:.3f} over those {where}, and"
            f" {MIN_CORRELATION} is the least, whatever --min-agreement says"
        )
        remedy = _remedy(judged)
    if wrong:
        raise BundleError(f"{'; '.join(wrong)}; {remedy}.")


def pictures_told(agreement: Agreement) -> str:
    """What the agreement was measured on, in words."""
    own = agreement.photos - (agreement.views or 0)
    views = f"{agreement.views} views of shipped photos"
    given = f"{own} photo{'s' if own != 1 else ''}"
    return {"photos": given, "shipped": views, "both": f"{given} and {views}"}[agreement.on]
