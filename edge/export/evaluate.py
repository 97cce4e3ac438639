"""Judge a bundle on labelled photos, as the daemon would see them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from edge.errors import WeightsError
from edge.export.exporter import architecture, contract_of
from edge.export.fold import FloatNetwork, fold
from edge.export.photos import LabelledPhoto
from edge.export.weights import Weights
from edge.vision.bundle import Bundle
from edge.vision.classifier import Classifier
from edge.vision.photo import read_photo


@dataclass
class Evaluation:
    """Counts over photos; the FP32 ones stay 0 without weights."""

    model: str
    with_fp32: bool
    photos: int = 0
    top1: int = 0
    top5: int = 0
    fp32_top1: int = 0
    agreed: int = 0
    difference: float = 0.0  # of the confidences in FP32's first class, summed, in points

    def to_dict(self) -> dict[str, Any]:
        """The shares in percent, as JSON types; `fp32` is null without weights."""

        def percent(count: int) -> float:
            return round(100 * count / self.photos, 2)

        fp32 = {
            "top1": percent(self.fp32_top1),
            "agreement": percent(self.agreed),
            "confidence_difference": round(self.difference / self.photos, 2),
        }
        return {
            "model": self.model,
            "photos": self.photos,
            "top1": percent(self.top1),
            "top5": percent(self.top5),
            "fp32": fp32 if self.with_fp32 else None,
        }


def evaluate(
    classifier: Classifier, bundle: Bundle, photos: Iterable[LabelledPhoto], weights: Weights | None
) -> Evaluation:
    """Classify `photos` and count.

    Raises:
        PhotoError: one of them cannot be read.
        WeightsError: `weights` are of another network than the bundle.
    """
    network = None if weights is None else _reference(bundle, weights)
    result = Evaluation(bundle.name, network is not None)
    buffer = classifier.new_input()
    for photo in photos:
        classifier.prepare(read_photo(photo.file), buffer)
        answer = classifier.infer(buffer)
        order = answer.argsort()[::-1][:5]
        result.photos += 1
        result.top1 += int(order[0]) == photo.index
        result.top5 += photo.index in order
        if network is not None:
            with torch.inference_mode():
                expected = network(buffer.tensor)[0].numpy()
            first = int(expected.argmax())
            result.fp32_top1 += first == photo.index
            result.agreed += first == int(order[0])
            result.difference += abs(float(expected[first] - answer[first])) * 100
    return result


def _reference(bundle: Bundle, weights: Weights) -> FloatNetwork:
    if weights.architecture != bundle.manifest.architecture:
        raise WeightsError(
            f"{bundle.name} is a {bundle.manifest.architecture} and the weights are a {weights.architecture};"
            " name the weights it was made from."
        )
    network = fold(architecture(weights.architecture), weights.state)
    if contract_of(network.architecture) != bundle.manifest.input:
        raise WeightsError(f"{bundle.name} takes another input than this version's FP32 network; export it again.")
    return network
