"""Classifies many photos with several threads, in order and in bounded memory; `classify` and `evaluate` use it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from edge.errors import PhotoError
from edge.events import Prediction
from edge.photos.decode import read_photo
from edge.vision.classifier import Classifier
from edge.vision.preprocess import InputBuffer

# A batch of eight is faster than eight single inferences; larger batches are not faster (docs/performance.md).
BATCH = 8
AHEAD = 2  # batches in work or done ahead of the consumer, for each thread


Result = tuple[Path, Prediction | PhotoError]  # a photo, and its prediction or why there is none


def threads_for(photos: int) -> int:
    """How many threads `classify_photos` uses best: one for each processor, each with an inference of one thread.

    Of fewer photos than a batch for each, 1: then each inference uses all processors.
    """
    processors = len(os.sched_getaffinity(0))
    return processors if photos > BATCH * processors else 1


def classify_photos(classifier: Classifier, photos: Sequence[Path], threads: int) -> Generator[Result, None, None]:
    """Classify photos in their order; a bad photo is one of the results and does not stop the others.

    Each thread reads, resizes and infers its own batch. Memory holds one decoded photo and the buffers of a batch for
    each thread.

    Args:
        classifier: infers with one thread, unless `threads` is 1.
        photos: any number; each is read when its batch starts.
        threads: how many batches run at once.
    """
    batches = (photos[at : at + BATCH] for at in range(0, len(photos), BATCH))
    threads = max(1, min(threads, -(-len(photos) // BATCH)))
    if threads == 1:  # in the thread that loaded the model: another one would get a second pool of OpenMP's threads
        for batch in batches:
            yield from _classify_batch(classifier, batch)
        return
    # `join_thread` requires that no thread infers before all have called it.
    joined = threading.Barrier(threads)

    def join() -> None:
        classifier.join_thread()
        joined.wait()

    pool = ThreadPoolExecutor(threads, "classify", initializer=join)
    try:
        # At least one batch for each thread, so that all threads start and reach the barrier.
        submitted = (pool.submit(_classify_batch, classifier, batch) for batch in batches)  # when it is iterated
        waiting = deque(islice(submitted, threads * AHEAD))
        while waiting:
            yield from waiting.popleft().result()
            waiting.extend(islice(submitted, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _classify_batch(classifier: Classifier, photos: Sequence[Path]) -> list[Result]:
    prepared = [_prepare(classifier, photo) for photo in photos]
    buffers = [one[0] for one in prepared if not isinstance(one, PhotoError)]
    # An incomplete batch has a new size, for which the engine's preparation costs more than batching saves.
    size = BATCH if classifier.takes_many and len(buffers) == BATCH else 1
    began = time.perf_counter()
    parts = [classifier.infer_all(buffers[at : at + size]) for at in range(0, len(buffers), size)]
    inference_ms = round((time.perf_counter() - began) * 1e3 / max(1, len(buffers)), 2)
    answers = (probabilities for part in parts for probabilities in part)
    results: list[Result] = []
    for photo, one in zip(photos, prepared, strict=True):
        if isinstance(one, PhotoError):
            results.append((photo, one))
        else:
            results.append((photo, Prediction(next(answers), {"preprocess": one[1], "inference": inference_ms})))
    return results


def _prepare(classifier: Classifier, photo: Path) -> tuple[InputBuffer, float] | PhotoError:
    """A buffer with the photo, and the milliseconds that this took without reading the file."""
    try:
        pixels = read_photo(photo)
    except PhotoError as error:
        return error
    began = time.perf_counter()
    buffer = classifier.new_input()
    classifier.prepare(pixels, buffer)
    return buffer, round((time.perf_counter() - began) * 1e3, 2)
