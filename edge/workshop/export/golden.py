"""The golden photo: one picture, shipped with the code, that every bundle has to answer as it did at export."""

from __future__ import annotations

from pathlib import Path

from edge.errors import BundleError
from edge.events import Probabilities
from edge.vision.bundle import GoldenClass

PHOTO = Path(__file__).parent / "golden.jpg"
MIN_LEAD = 10.0  # points: a photo that nearly ties would fail on a rounding difference


def golden_classes(probabilities: Probabilities) -> tuple[GoldenClass, ...]:
    """The top three, for the manifest.

    Raises:
        BundleError: the first leads by less than MIN_LEAD, so the photo cannot tell right from wrong.
    """
    order = probabilities.argsort()[::-1][:3]
    confidences = [round(float(probabilities[i]) * 100, 2) for i in order]
    lead = confidences[0] - confidences[1]
    if not lead >= MIN_LEAD:  # NaN is not
        raise BundleError(
            f"The golden photo's first class leads by {lead:.1f} points only, and {MIN_LEAD:.0f} are needed to tell a"
            " sound model from a broken one; give another with --golden PHOTO, or better weights."
        )
    return tuple(GoldenClass(index=int(i), confidence=c) for i, c in zip(order, confidences, strict=True))
