"""Accuracy, calibration and most frequent mistakes of a model, from its answers to labelled photos."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

BINS = 10  # of confidence, equally wide
WORST = 5  # confused pairs that are reported
_Z = 1.959964  # of 95 % of a normal distribution


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share, in percent (Wilson 1927), valid for few photos and near 100 % too."""
    share, square = count / total, _Z**2 / total
    centre = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / total + square / (4 * total))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class Answer:
    """The model's answer to one photo; confidences in percent."""

    truth: int
    classes: tuple[int, ...]  # the five with the highest confidence, highest first
    confidence: float  # in the first
    fp32: int | None = None  # FP32's first class
    difference: float = 0.0  # between INT8's and FP32's confidence in FP32's class, in points

    @property
    def right(self) -> bool:
        """Whether the first class is the true one."""
        return self.classes[0] == self.truth


class Bin(NamedTuple):
    """The photos whose confidence is in one range, which begins at `low` percent."""

    low: float
    photos: int
    confidence: float  # mean, in percent
    right: float  # percent of the photos


@dataclass
class Evaluation:
    """A model's answers, and the figures that follow from them."""

    model: str
    labels: tuple[str, ...]
    answers: list[Answer] = field(default_factory=list)

    def bins(self) -> list[Bin]:
        """The bins that hold photos, from low to high confidence."""
        inside: defaultdict[int, list[Answer]] = defaultdict(list)
        for answer in self.answers:
            inside[min(int(answer.confidence * BINS / 100), BINS - 1)].append(answer)
        return [
            Bin(
                low=100 / BINS * number,
                photos=len(some),
                confidence=sum(answer.confidence for answer in some) / len(some),
                right=100 * sum(answer.right for answer in some) / len(some),
            )
            for number, some in sorted(inside.items())
        ]

    def calibration_error(self) -> float:
        """The expected calibration error (Guo et al. 2017): the mean distance of confidence and accuracy, in points."""
        return sum(part.photos * abs(part.confidence - part.right) for part in self.bins()) / len(self.answers)

    def confused(self) -> list[dict[str, Any]]:
        """The pairs of classes that are confused most often; of equally frequent ones those with more confidence."""
        counts: Counter[tuple[int, int]] = Counter()
        confidences: defaultdict[tuple[int, int], float] = defaultdict(float)  # sums
        for answer in self.answers:
            if not answer.right:
                counts[answer.truth, answer.classes[0]] += 1
                confidences[answer.truth, answer.classes[0]] += answer.confidence
        pairs = sorted(counts, key=lambda pair: (-counts[pair], -confidences[pair], pair))
        return [
            {
                "truth": self.labels[truth],
                "said": self.labels[said],
                "photos": counts[truth, said],
                "confidence": round(confidences[truth, said] / counts[truth, said], 1),
            }
            for truth, said in pairs[:WORST]
        ]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: shares in percent with their 95 % intervals; `fp32` is None without weights."""
        answers = self.answers
        return {
            "model": self.model,
            "photos": len(answers),
            **self._share("top1", sum(answer.right for answer in answers)),
            **self._share("top5", sum(answer.truth in answer.classes for answer in answers)),
            "fp32": None if any(answer.fp32 is None for answer in answers) else self._fp32(),
            "calibration": {
                "error": round(self.calibration_error(), 2),
                "confidence": round(sum(answer.confidence for answer in answers) / len(answers), 2),
                "bins": [
                    {
                        "from": round(part.low, 1),
                        "to": round(part.low + 100 / BINS, 1),
                        "photos": part.photos,
                        "confidence": round(part.confidence, 2),
                        "right": round(part.right, 2),
                    }
                    for part in self.bins()
                ],
            },
            "confused": self.confused(),
        }

    def _fp32(self) -> dict[str, Any]:
        difference = sum(answer.difference for answer in self.answers) / len(self.answers)
        return {
            **self._share("top1", sum(answer.fp32 == answer.truth for answer in self.answers)),
            **self._share("agreement", sum(answer.fp32 == answer.classes[0] for answer in self.answers)),
            "confidence_difference": round(difference, 2),
        }

    def _share(self, name: str, count: int) -> dict[str, Any]:
        """A number of photos as a percentage, and its interval."""
        total = len(self.answers)
        interval = [round(bound, 2) for bound in wilson(count, total)]
        return {name: round(100 * count / total, 2), f"{name}_interval": interval}
