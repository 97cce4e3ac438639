"""What answers to labelled photos say about a model: how right, how sure, and what it takes for what."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

BINS = 10  # of confidence, equally wide
WORST = 5  # confused pairs that are told
_Z = 1.959964  # of 95 % of a normal distribution


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share, in percent (Wilson 1927): sound for few photos and near 100 % too."""
    share, square = count / total, _Z**2 / total
    centre = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / total + square / (4 * total))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class Answer:
    """One photo's; confidences in percent."""

    truth: int
    classes: tuple[int, ...]  # the first five said, the surest first
    confidence: float  # in the first
    fp32: int | None = None  # what FP32 says
    difference: float = 0.0  # of the confidences in FP32's class, in points


@dataclass(frozen=True, slots=True)
class Bin:
    """The photos on which the model was about as sure."""

    low: float
    photos: int
    confidence: float  # mean, in percent
    right: float  # percent of them


@dataclass
class Evaluation:
    """Answers, and what follows from them."""

    model: str
    labels: tuple[str, ...]
    answers: list[Answer] = field(default_factory=list)

    def bins(self) -> list[Bin]:
        """The confidences' bins that hold photos, from unsure to sure."""
        inside: list[list[Answer]] = [[] for _ in range(BINS)]
        for answer in self.answers:
            inside[min(int(answer.confidence * BINS / 100), BINS - 1)].append(answer)
        return [
            Bin(
                low=100 / BINS * number,
                photos=len(some),
                confidence=sum(answer.confidence for answer in some) / len(some),
                right=100 * sum(answer.classes[0] == answer.truth for answer in some) / len(some),
            )
            for number, some in enumerate(inside)
            if some
        ]

    def calibration_error(self) -> float:
        """The expected calibration error (Guo et al. 2017): how far from right the bins' confidences are, in points."""
        return sum(part.photos * abs(part.confidence - part.right) for part in self.bins()) / len(self.answers)

    def confused(self) -> list[dict[str, Any]]:
        """The pairs that are mistaken most often, and among those the ones that it is surest of."""
        wrong = [answer for answer in self.answers if answer.classes[0] != answer.truth]
        counts = Counter((answer.truth, answer.classes[0]) for answer in wrong)
        sure: defaultdict[tuple[int, int], float] = defaultdict(float)
        for answer in wrong:
            sure[answer.truth, answer.classes[0]] += answer.confidence
        pairs = sorted(counts, key=lambda pair: (-counts[pair], -sure[pair], pair))
        return [
            {
                "truth": self.labels[truth],
                "said": self.labels[said],
                "photos": counts[truth, said],
                "confidence": round(sure[truth, said] / counts[truth, said], 1),
            }
            for truth, said in pairs[:WORST]
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON types: shares in percent with their 95 % intervals; `fp32` is null without weights."""
        top1 = sum(answer.classes[0] == answer.truth for answer in self.answers)
        top5 = sum(answer.truth in answer.classes for answer in self.answers)
        bins, photos = self.bins(), len(self.answers)
        return {
            "model": self.model,
            "photos": photos,
            "top1": self._percent(top1),
            "top1_interval": self._interval(top1),
            "top5": self._percent(top5),
            "top5_interval": self._interval(top5),
            "fp32": self._fp32(),
            "calibration": {
                "error": round(self.calibration_error(), 2),
                "confidence": round(sum(answer.confidence for answer in self.answers) / photos, 2),
                "bins": [
                    {
                        "from": round(part.low, 1),
                        "to": round(part.low + 100 / BINS, 1),
                        "photos": part.photos,
                        "confidence": round(part.confidence, 2),
                        "right": round(part.right, 2),
                    }
                    for part in bins
                ],
            },
            "confused": self.confused(),
        }

    def _fp32(self) -> dict[str, Any] | None:
        if any(answer.fp32 is None for answer in self.answers):
            return None
        right = sum(answer.fp32 == answer.truth for answer in self.answers)
        agreed = sum(answer.fp32 == answer.classes[0] for answer in self.answers)
        return {
            "top1": self._percent(right),
            "top1_interval": self._interval(right),
            "agreement": self._percent(agreed),
            "agreement_interval": self._interval(agreed),
            "confidence_difference": round(sum(answer.difference for answer in self.answers) / len(self.answers), 2),
        }

    def _percent(self, count: int) -> float:
        return round(100 * count / len(self.answers), 2)

    def _interval(self, count: int) -> list[float]:
        return [round(bound, 2) for bound in wilson(count, len(self.answers))]
