"""Classifies labelled photos with a bundle, as the daemon does frames, and with FP32 if there are weights."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from edge.errors import PhotoError, WeightsError
from edge.events import Probabilities
from edge.frames import Pixels
from edge.photos.decode import read_photo
from edge.photos.folders import LabelledPhoto
from edge.vision.batch import classify_photos
from edge.vision.bundle import Bundle
from edge.vision.classifier import Classifier
from edge.vision.preprocess import InputBuffer
from edge.workshop.evaluate.accuracy import Answer, Evaluation

if TYPE_CHECKING:  # these import torch, which only FP32 needs
    from edge.workshop.export.network.float_network import FloatNetwork
    from edge.workshop.export.weights.state_dict import Weights


def evaluate(
    classifier: Classifier,
    bundle: Bundle,
    photos: Sequence[LabelledPhoto],
    weights: Weights | None,
    *,
    threads: int = 1,
    progress: Callable[[Sequence[LabelledPhoto]], Iterable[LabelledPhoto]] = lambda photos: photos,
) -> Evaluation:
    """Classify `photos` with INT8, and with FP32 too if there are weights.

    Args:
        classifier: infers with one thread, unless `threads` is 1.
        bundle: the classifier's.
        photos: with their classes.
        weights: of the bundle's network.
        threads: how many photos are classified at once; with weights always one.
        progress: called with the photos, and iterated as they are done.

    Raises:
        PhotoError: a photo cannot be read.
        WeightsError: `weights` are of another network than the bundle.
    """
    reference = None if weights is None else _reference(_network(bundle, weights))
    result = Evaluation(bundle.name, bundle.labels)
    buffer = classifier.new_input()
    answers = _answers(classifier, photos, threads) if reference is None else _answers_in(buffer, classifier, photos)
    with closing(answers):
        for photo, answer in zip(progress(photos), answers, strict=True):
            order = answer.argsort()[::-1][:5]
            first, difference = None, 0.0
            if reference is not None:
                expected = reference(buffer.pixels)
                first = int(expected.argmax())
                difference = abs(float(expected[first] - answer[first])) * 100
            top, confidence = tuple(int(index) for index in order), 100 * float(answer[order[0]])
            result.answers.append(Answer(photo.index, top, confidence, first, difference))
    return result


Answers = Generator[Probabilities, None, None]


def _answers(classifier: Classifier, photos: Sequence[LabelledPhoto], threads: int) -> Answers:
    """The answer to each photo, in their order."""
    with closing(classify_photos(classifier, [photo.file for photo in photos], threads)) as outcomes:
        for _, outcome in outcomes:
            if isinstance(outcome, PhotoError):
                raise outcome
            yield outcome.probabilities


def _answers_in(buffer: InputBuffer, classifier: Classifier, photos: Sequence[LabelledPhoto]) -> Answers:
    """The same one by one; each photo is in the buffer until the next answer is asked for."""
    for photo in photos:
        classifier.prepare(read_photo(photo.file), buffer)
        yield classifier.infer(buffer)


def _reference(network: FloatNetwork) -> Callable[[Pixels], Probabilities]:
    """FP32's probabilities, (classes,), of pixels (1, side, side, 3)."""
    import torch

    def infer(pixels: Pixels) -> Probabilities:
        with torch.inference_mode():
            probabilities: Probabilities = network(torch.from_numpy(pixels))[0].numpy()
        return probabilities

    return infer


def _network(bundle: Bundle, weights: Weights) -> FloatNetwork:
    from edge.workshop.export.network.architectures import architecture
    from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
    from edge.workshop.export.network.input_options import of_contract

    if weights.architecture != bundle.manifest.architecture:
        raise WeightsError(
            f"{bundle.name} is a {bundle.manifest.architecture} and the weights are a {weights.architecture};"
            " name the weights it was made from."
        )
    contract = bundle.manifest.input
    network = fold_batch_norms(of_contract(contract).applied_to(architecture(weights.architecture)), weights.state)
    if network.classes != len(bundle.labels):
        raise WeightsError(
            f"{bundle.name} has {len(bundle.labels)} classes and the weights have {network.classes};"
            " name the weights it was made from."
        )
    expected = network.architecture.contract
    if contract.normalization is None:  # of an older version; its border has the mean colour too
        expected = expected.model_copy(update={"normalization": None})
    if expected != contract:
        raise WeightsError(f"{bundle.name} takes another input than this version's FP32 network; export it again.")
    return network
