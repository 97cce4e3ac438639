"""Compares an INT8 or FP16 model with the FP32 network that it was made from; refuses one that differs too much."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from edge.errors import BundleError
from edge.events import Probabilities
from edge.frames import Pixels
from edge.vision.manifest import Agreement, GoldenClass
from edge.vision.torch_compat import known_deprecations, trace_script
from edge.workshop.export.judge.limits import GOLDEN_MIN_CORRELATION, GOLDEN_MIN_LEAD, MIN_CORRELATION, TIE
from edge.workshop.export.network.float_network import FloatNetwork

_RUNS = 15
_WARM_UP = 3  # TorchScript's profiling executor settles after two calls

Model = Callable[[Pixels], Probabilities]  # of a buffer (1, side, side, 3); (classes,)
Judged = Literal["INT8", "FP16"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Median milliseconds of one inference, without preprocessing, on `threads` threads."""

    int8_ms: float
    fp32_ms: float
    threads: int


def measure_latency(model: Model, network: FloatNetwork, example: Pixels) -> Latency:
    """The model, and FP32 as TorchScript, one after the other in this process."""
    tensor = torch.from_numpy(example)
    fp32 = trace_script(network, tensor)
    return Latency(_median_ms(lambda: model(example)), _median_ms(lambda: fp32(tensor)), torch.get_num_threads())


def _median_ms(infer: Callable[[], object]) -> float:
    times = []
    with known_deprecations(), torch.inference_mode():
        for _ in range(_WARM_UP + _RUNS):
            start = time.perf_counter()
            infer()
            times.append(time.perf_counter() - start)
    return round(statistics.median(times[_WARM_UP:]) * 1e3, 2)


def correlation(int8: torch.Tensor, fp32: torch.Tensor) -> float:
    """Of the logits behind two sets of probabilities, each (classes,)."""
    return _cosine(_logits(int8), _logits(fp32))


def _cosine(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float(ours @ theirs / (ours.norm() * theirs.norm()).clamp_min(1e-12))


def _logits(probabilities: torch.Tensor) -> torch.Tensor:
    """The logits (…, classes) minus their mean over the classes, a constant that softmax removes."""
    logits = probabilities.double().clamp_min(1e-30).log()
    return logits - logits.mean(-1, keepdim=True)


def golden_classes(probabilities: Probabilities) -> tuple[GoldenClass, ...]:
    """The top three, for the manifest.

    Raises:
        BundleError: the first leads by less than GOLDEN_MIN_LEAD, so the photo does not show whether a model is right.
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


def verify_golden(model: Model, network: FloatNetwork, example: Pixels, judged: Judged) -> tuple[GoldenClass, ...]:
    """Compare the model's answer to the golden photo, `example`, with FP32's; returns its top three.

    Raises:
        BundleError: the answers differ, or one of them has no clear first class.
    """
    with torch.inference_mode():
        found, expected = torch.from_numpy(model(example)), network(torch.from_numpy(example))[0]
    golden_classes(expected.numpy())  # no model can be sure of a photo of which FP32 is not
    similarity = correlation(found, expected)
    first, other = int(expected.argmax()), int(found.argmax())
    wrong = ""
    if first != other:
        wrong = (
            f"FP32's first class {first} has {found[first] * 100:.1f} % there and class {other} has"
            f" {found[other] * 100:.1f} %"
        )
    elif not similarity >= GOLDEN_MIN_CORRELATION:
        wrong = f"the logits' correlation is {similarity:.3f}, and {GOLDEN_MIN_CORRELATION} is the least"
    if wrong:
        raise BundleError(f"{judged} does not follow FP32 on the golden photo ({wrong}); {_remedy(judged)}.")
    return golden_classes(found.numpy())


def measure_agreement(
    models: Sequence[Model], network: FloatNetwork, buffers: Iterable[Pixels], given: int
) -> list[Agreement]:
    """How often a model and FP32 have the same top-1 class, and how far apart they are in that class's confidence.

    The correlation is the larger of two: the mean of the pictures' correlations, and the correlation over all logits.
    Each alone misjudges some cases: with two classes the correlation on one near tie is 1 or -1, and over all logits
    one picture with wide logits outweighs all others.

    Where FP32's top two are nearly tied, rounding decides which is first. So `top1_or_tie` also counts a class to which
    FP32 itself gives at least `TIE` times the confidence of its top-1.

    Args:
        models: INT8 or FP16; FP32 is computed once for all.
        network: FP32.
        buffers: each (1, side, side, 3) uint8; at least one.
        given: how many of them, the first ones, are the user's photos; the others are views of shipped photos.
    """
    fp32: list[torch.Tensor] = []
    answers: list[list[torch.Tensor]] = [[] for _ in models]
    with torch.inference_mode():
        for buffer in buffers:
            fp32.append(network(torch.from_numpy(buffer))[0])
            for model, into in zip(models, answers, strict=True):
                into.append(torch.from_numpy(model(buffer)))
    expected = torch.stack(fp32).nan_to_num()
    return [_agreement(torch.stack(found).nan_to_num(), expected, given) for found in answers]


def _agreement(found: torch.Tensor, expected: torch.Tensor, given: int) -> Agreement:
    """Of the probabilities of a model and of FP32, each (photos, classes); NaN became 0, correlating with nothing."""
    first, other = expected.argmax(1, keepdim=True), found.argmax(1, keepdim=True)
    confidence = expected.gather(1, first)
    follows = expected.gather(1, other) >= TIE * confidence
    difference = (confidence - found.gather(1, first)).abs().mean()
    each = [correlation(ours, theirs) for ours, theirs in zip(found, expected, strict=True)]
    over_all = _cosine(_logits(found).flatten(), _logits(expected).flatten())
    photos = len(expected)
    return Agreement(
        on="shipped" if not given else "photos" if given == photos else "both",
        photos=photos,
        views=photos - given,
        classes=len(set(first.flatten().tolist())),
        top1=round(100 * int((first == other).sum()) / photos, 2),
        top1_or_tie=round(100 * int(follows.sum()) / photos, 2),
        confidence_difference=round(100 * float(difference), 2),
        correlation=round(max(statistics.fmean(each), over_all), 4),
    )


def refuse_below(minimum: float, agreement: Agreement, judged: Judged) -> None:
    """Refuse a model that disagrees with FP32 too often, or whose logits differ too much from FP32's.

    Agreement alone would accept a model that gives the same class for every picture; the correlation does not.

    Args:
        minimum: percent of `top1_or_tie`; with 0 only the correlation is checked.
        agreement: as `measure_agreement` found it.
        judged: the model's precision, for the message.

    Raises:
        BundleError: it agrees less often, or the correlation is below `MIN_CORRELATION`; the message says which.
    """
    found, correlated = agreement.top1_or_tie, agreement.correlation
    assert found is not None  # only bundles of older versions lack these two
    assert correlated is not None
    where = f"of {describe_pictures(agreement)}"
    wrong, remedy = [], _remedy(judged)
    if not found >= minimum:
        wrong.append(f"{judged} agrees with FP32 on {found:.1f} % {where}, and {minimum:g} % are the least")
        remedy = _remedy(judged, "accept it with --min-agreement")
    if not correlated >= MIN_CORRELATION:
        wrong.append(
            f"{judged}'s logits correlate with FP32's by {correlated:.3f} over those {where}, and"
            f" {MIN_CORRELATION} is the least, whatever --min-agreement says"
        )
        remedy = _remedy(judged)
    if wrong:
        raise BundleError(f"{'; '.join(wrong)}; {remedy}.")


def _remedy(judged: Judged, *more: str) -> str:
    """What may help; FP16 has no ranges to find."""
    ways = ["find the ranges on photos with --calibrate DIR"] if judged == "INT8" else []
    ways += ["use other weights", *more]
    return ", ".join([*ways[:-1], f"or {ways[-1]}"]) if len(ways) > 1 else ways[0]


def describe_pictures(agreement: Agreement) -> str:
    """What the agreement was measured on, as "12 photos" or "48 views of shipped photos"."""
    own = agreement.photos - (agreement.views or 0)
    views = f"{agreement.views} views of shipped photos"
    given = f"{own} photo{'s' if own != 1 else ''}"
    return {"photos": given, "shipped": views, "both": f"{given} and {views}"}[agreement.on]
