"""Tests the measurement of uploads: the real page, decoder and model over HTTP, with photos that differ."""

from pathlib import Path

import numpy as np
import pytest

from edge.daemon.event_maker import EventMaker
from edge.photos.decode import decode_photo
from edge.settings.schema import ModelSettings
from edge.vision.bundle import GOLDEN, load_bundle
from edge.vision.classifier import Classifier
from edge.workshop.bench.upload import AT_ONCE, measure_uploads, numbered, page, upload
from tests.broker import free_port

MAKER = EventMaker("porch", "5f1c2e7a")


@pytest.fixture(scope="module")
def classifier(bundle_dir: Path) -> Classifier:
    return Classifier(load_bundle(bundle_dir), ModelSettings(threads=1))


def test_numbered_photos_differ_and_show_the_same(bundle_dir: Path) -> None:
    """The page would answer the same photo from its memory."""
    photo = (bundle_dir / GOLDEN).read_bytes()
    one, two = numbered(photo, 1), numbered(photo, 2)
    assert one != two
    assert np.array_equal(decode_photo(one, "one"), decode_photo(photo, "original"))
    assert np.array_equal(decode_photo(two, "two"), decode_photo(photo, "original"))


@pytest.mark.timeout(120)
def test_every_upload_is_answered_and_timed(classifier: Classifier, bundle_dir: Path) -> None:
    measured = measure_uploads(classifier, (bundle_dir / GOLDEN).read_bytes(), MAKER, 0.1)
    assert measured.answered == measured.requests >= 40
    assert measured.failures == {}
    assert measured.answered_percent == 100
    assert measured.alone is not None
    assert measured.alone.mean is not None
    assert measured.alone.mean > 0
    assert measured.together is not None
    assert measured.at_once == AT_ONCE
    assert measured.photo.startswith("JPEG of 600 × 400")
    assert measured.peak_memory_mb > 50


@pytest.mark.timeout(120)
def test_a_refused_photo_and_a_page_that_is_gone_count_as_failures(classifier: Classifier) -> None:
    with page(classifier, MAKER) as address:
        assert upload(address, b"no photo")[1] == "HTTP 422"
    milliseconds, failure = upload(f"http://127.0.0.1:{free_port()}", b"a photo")
    assert failure == "ConnectionRefusedError"
    assert milliseconds > 0
