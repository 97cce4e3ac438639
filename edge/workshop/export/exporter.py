"""FP32 weights to a bundle, step by step: fold, find ranges, quantize, trace, compare with FP32, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from edge.board.processor import InstructionSet, host_target
from edge.errors import BundleError
from edge.events import Probabilities
from edge.frames import Pixels
from edge.photos.decode import read_photo
from edge.vision.bundle import GOLDEN, HEAD, LABELS, TRUNK
from edge.vision.engines import torchscript
from edge.vision.engines.engine import Session
from edge.vision.engines.torch_kernels import host_activations, host_kernels, needs_small_pairs, use_kernels
from edge.vision.engines.torch_session import TorchSession
from edge.vision.head import Head
from edge.vision.manifest import Ancestor, Engine, GoldenClass, InputContract, Manifest, Quantization
from edge.vision.preprocess import fill, new_buffer
from edge.workshop.export.bundle_writer import write_bundle
from edge.workshop.export.judge.agreement import (
    Judged,
    measure_agreement,
    measure_latency,
    refuse_below,
    verify_golden,
)
from edge.workshop.export.judge.limits import ENOUGH_PHOTOS, MIN_AGREEMENT
from edge.workshop.export.judge.report import Exported
from edge.workshop.export.judge.views import GOLDEN_PHOTO, of_photos, shipped_views
from edge.workshop.export.network.architectures import architecture
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.network.input_options import AS_KNOWN, InputOptions
from edge.workshop.export.quantize.gpu_network import Gpu, Jetson, NoEngineError, Precision, make_fp16, make_int8
from edge.workshop.export.quantize.int8_network import trunk_bytes
from edge.workshop.export.quantize.ranges import Range, calibrated_ranges, data_free_ranges
from edge.workshop.export.weights.class_names import class_names
from edge.workshop.export.weights.state_dict import Weights

Step = Callable[[str], None]
Each = Callable[[Sequence[Any]], Iterable[Any]]


_UNANSWERED = (GoldenClass(index=0, confidence=0), GoldenClass(index=1, confidence=0))


@dataclass(frozen=True)
class _Candidate:
    """A trunk before it is compared with FP32, loaded by its engine, and the head behind it."""

    manifest: Manifest  # lacks the files, the golden photo's answers and the agreement
    trunk: bytes
    session: Session
    head: Head

    def __call__(self, buffer: Pixels) -> Probabilities:
        return self.head.probabilities(self.session.infer(buffer))


def export_bundle(
    weights: Weights,
    models: Path,
    *,
    target: InstructionSet | Literal["jetson"] | None = None,
    precision: Precision = "auto",
    calibration: Sequence[Path] = (),
    photos: Sequence[Path] = (),
    min_agreement: float = MIN_AGREEMENT,
    golden: Path = GOLDEN_PHOTO,
    labels: Path | None = None,
    trained_on: InputOptions = AS_KNOWN,
    open_gpu: Callable[[], Gpu] = Jetson,
    step: Step = lambda _: None,
    each: Each = lambda photos: photos,
    check: Callable[[Path], object] = lambda directory: None,
) -> Exported:
    """Make a bundle in `models`; the link `current` is not changed.

    Args:
        weights: of an architecture in `ARCHITECTURES`.
        models: the directory in which the bundle's own directory is made.
        target: instruction set; None is this machine's.
        precision: `auto` is INT8, or FP16 for a GPU that TensorRT cannot make INT8 for; the others allow only that one.
        calibration: photos to find the ranges on; without photos the ranges come from the batch norms.
        photos: photos to measure the agreement with FP32 on; if there are fewer than 20, views of shipped photos are
            added.
        min_agreement: percent; a model below it is refused. With 0 only the correlation of the logits is checked.
        golden: the photo that the bundle must answer on each load as it did at export.
        labels: a file with the classes' names, one a line; None means ImageNet's.
        trained_on: where the network's input differs from its architecture's usual one.
        open_gpu: opens the GPU for the target `jetson`.
        step: called with a description of each step.
        each: wraps a sequence of photos to show the progress through it.
        check: called with the bundle's directory before that is moved to `models`; an exception ends the export.

    Raises:
        WeightsError, PhotoError, BundleError, StateError: the message says what to do.
    """
    target = target or host_target()
    if precision == "fp16" and target != "jetson":
        raise BundleError("FP16 is for a Jetson's GPU; add --target jetson, or leave --precision out.")
    gpu = open_gpu() if target == "jetson" else None
    step("folding batch norms and normalisation into the convolutions")
    usual = architecture(weights.architecture)
    table = trained_on.applied_to(usual)
    network = fold_batch_norms(table, weights.state)
    names = class_names(network.classes, labels)
    step("finding the ranges of the activations")
    contract = table.contract
    ranges = (
        calibrated_ranges(
            network, (torch.from_numpy(buffer_of(read_photo(photo), contract)) for photo in each(calibration))
        )
        if calibration
        else data_free_ranges(network)
    )
    example = buffer_of(read_photo(golden), contract)
    quantization = Quantization(
        ranges="calibrated" if calibration else "data-free", photos=len(calibration), activations="int8"
    )
    origin = weights.origin
    draft = Manifest(
        architecture=table.name,
        target=target,
        engine=Engine(name="none", library=f"torch {torch.__version__}"),
        files={},
        features=network.features,
        # The published accuracy is that on the usual input.
        weights=origin if table == usual else origin.model_copy(update={"top1": None}),
        lineage=(
            Ancestor(
                kind="weights", name=origin.source, sha256=origin.sha256, how=f"export, {quantization.ranges} ranges"
            ),
        ),
        quantization=quantization,
        input=contract,
        golden=_UNANSWERED,
    )
    if gpu is not None:
        step("building the model for the GPU, which may take minutes")
        candidate = _on_gpu(draft, network, ranges, example, gpu, precision, step)
    else:
        candidate = _on_cpu(draft, network, ranges, example, step)
    judged: Judged = "INT8" if candidate.manifest.quantization else "FP16"
    step(f"comparing {judged} with FP32")
    classes = verify_golden(candidate, network, example, judged)
    views = shipped_views(golden) if len(photos) < ENOUGH_PHOTOS else []
    buffers = (buffer_of(picture(), contract) for picture in each([*of_photos(photos), *views]))
    agreement = measure_agreement(candidate, network, buffers, len(photos))
    refuse_below(min_agreement, agreement, judged)
    latency = measure_latency(candidate, network, example)
    step("writing the bundle")
    contents = {
        "trunk": (TRUNK, candidate.trunk),
        "head": (HEAD, candidate.head.to_bytes()),
        "labels": (LABELS, "".join(f"{name}\n" for name in names).encode()),
        "golden": (GOLDEN, golden.read_bytes()),
    }
    manifest = candidate.manifest.model_copy(update={"golden": classes, "agreement": agreement})
    directory, manifest = write_bundle(contents, manifest, models, check)
    floats = sum(value.numel() for value in weights.state.values() if value.is_floating_point())
    model_bytes = sum(len(contents[role][1]) for role in ("trunk", "head"))
    return Exported(
        directory, manifest, agreement, latency, model_bytes, fp32_bytes=floats * 4, classes=network.classes
    )


def buffer_of(pixels: Pixels, contract: InputContract) -> Pixels:
    """A new padded buffer with `pixels` in it, (1, side, side, 3) uint8."""
    buffer = new_buffer(contract)
    fill(buffer, pixels, contract)
    return buffer.pixels


def _head_of(network: FloatNetwork) -> Head:
    weight, bias = network.head.linear
    return Head(weight.numpy(), bias.numpy())


def _on_gpu(
    draft: Manifest,
    network: FloatNetwork,
    ranges: dict[str, Range],
    example: Pixels,
    gpu: Gpu,
    precision: Precision,
    step: Step,
) -> _Candidate:
    pixels = torch.from_numpy(example)
    trunk, change = b"", dict[str, object]()
    if precision != "fp16":
        try:
            trunk = make_int8(network, ranges, pixels, gpu)
            change = {"engine": _engine(draft, "cuda", "tensorrt")}
        except NoEngineError as error:
            if precision == "int8":
                raise
            step(f"{error.reason}, so this is FP16 instead of INT8; fix that and export again for INT8.")
    if not trunk:
        trunk = make_fp16(network, pixels, gpu)
        change = {"engine": _engine(draft, "cuda", "cuda"), "precision": "fp16", "quantization": None}
    manifest = draft.model_copy(update=change)
    return _Candidate(manifest, trunk, TorchSession(manifest, {"trunk": trunk}, place=gpu.place), _head_of(network))


def _on_cpu(
    draft: Manifest, network: FloatNetwork, ranges: dict[str, Range], example: Pixels, step: Step
) -> _Candidate:
    assert draft.target in ("arm64", "x86_64")
    assert draft.quantization is not None
    kernels = host_kernels(draft.target)
    use_kernels(kernels)
    activations, small_pairs = host_activations(draft.target), needs_small_pairs(kernels)
    step(f"quantizing to INT8 ({activations} for the engine {kernels})")
    pixels = torch.from_numpy(example)
    trunk = trunk_bytes(network, ranges, pixels, kernels, activations, small_pairs=small_pairs)
    quantization = draft.quantization.model_copy(update={"activations": activations, "small_pairs": small_pairs})
    manifest = draft.model_copy(update={"engine": _engine(draft, "torchscript", kernels), "quantization": quantization})
    session = torchscript.load(manifest, {"trunk": trunk}, torch.get_num_threads())
    return _Candidate(manifest, trunk, session, _head_of(network))


def _engine(draft: Manifest, name: str, kernels: str) -> Engine:
    return draft.engine.model_copy(update={"name": name, "options": {"kernels": kernels}})
