"""Many photos at once: read, resized and classified by several threads, in order and in bounded memory."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edge.errors import PhotoError
from edge.events import Prediction
from edge.photos.decode import read_photo
from edge.vision.classifier import Classifier
from edge.vision.engine import join_threads
from edge.vision.preprocess import InputBuffer

# One inference for eight photos takes less than eight for one each; more gain no more (docs/performance.md).
BATCH = 8
AHEAD = 2  # batches for each thread that may wait for an earlier one


@dataclass(frozen=True, slots=True)
class Found:
    """What one photo shows, or why that is not known."""

    photo: Path
    outcome: Prediction | PhotoError


def classify_photos(classifier: Classifier, photos: Sequence[Path], threads: int) -> Generator[Found, None, None]:
    """Classify every photo, in their order; a bad one is among what is found and stops nothing.

    Each thread reads, resizes and infers a batch of its own, so no two wait for each other; in memory are, for
    each thread, one decoded photo and the buffers of a batch.

    Args:
        classifier: one that infers with one thread, or more where `threads` is 1.
        photos: any number; they are read as their turn comes.
        threads: how many batches at once.
    """
    batches = (photos[at : at + BATCH] for at in range(0, len(photos), BATCH))
    threads = max(1, min(threads, -(-len(photos) // BATCH)))
    # All join torch before any infers, which `join_threads` asks for.
    joined = threading.Barrier(threads)

    def join() -> None:
        join_threads()
        joined.wait()

    pool = ThreadPoolExecutor(threads, "classify", initializer=join)
    try:
        # So many that every thread starts: none waits at the barrier for one that never comes.
        waiting = deque(_submit(pool, classifier, batch) for batch in islice(batches, threads * AHEAD))
        while waiting:
            yield from waiting.popleft().result()
            waiting.extend(_submit(pool, classifier, batch) for batch in islice(batches, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ThreadPoolExecutor, classifier: Classifier, batch: Sequence[Path]) -> Future[list[Found]]:
    return pool.submit(_classify_batch, classifier, batch)


def _classify_batch(classifier: Classifier, photos: Sequence[Path]) -> list[Found]:
    ready: list[tuple[InputBuffer, float] | PhotoError] = [_prepare(classifier, photo) for photo in photos]
    buffers = [one[0] for one in ready if not isinstance(one, PhotoError)]
    # A batch that is not full is of a size that torch has not seen, which costs more than it saves.
    size = BATCH if classifier.takes_many and len(buffers) == BATCH else 1
    probabilities = []
    inference_ms = 0.0
    if buffers:
        began = time.perf_counter()
        for at in range(0, len(buffers), size):
            probabilities += list(classifier.infer_all(buffers[at : at + size]))
        inference_ms = (time.perf_counter() - began) * 1e3 / len(buffers)
    answers = iter(probabilities)
    return [
        Found(photo, one)
        if isinstance(one, PhotoError)
        else Found(
            photo, Prediction(next(answers), {"preprocess": round(one[1], 2), "inference": round(inference_ms, 2)})
        )
        for photo, one in zip(photos, ready, strict=True)
    ]


def _prepare(classifier: Classifier, photo: Path) -> tuple[InputBuffer, float] | PhotoError:
    try:
        pixels = read_photo(photo)
    except PhotoError as error:
        return error
    began = time.perf_counter()
    buffer = classifier.new_input()
    classifier.prepare(pixels, buffer)
    return buffer, (time.perf_counter() - began) * 1e3
