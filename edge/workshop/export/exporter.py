"""From FP32 weights to a bundle: fold batch norms, find ranges, quantize, trace, check, write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge.errors import BundleError
from edge.events import Probabilities
from edge.frames import Pixels
from edge.photos.decode import read_photo
from edge.vision.bundle import Engine, InputContract, Manifest, Quantization, Target
from edge.vision.engine import host_activations, host_engine, host_target, needs_small_pairs, use_engine
from edge.vision.preprocess import fill, new_buffer
from edge.vision.torch_compat import known_deprecations, trace_script
from edge.workshop.export.bundle_writer import Made, write_bundle
from edge.workshop.export.judge.agreement import (
    Judged,
    Model,
    golden_classes,
    measure_agreement,
    measure_latency,
    refuse_below,
    verify,
)
from edge.workshop.export.judge.limits import ENOUGH_PHOTOS, MIN_AGREEMENT
from edge.workshop.export.judge.report import Report
from edge.workshop.export.judge.views import GOLDEN_PHOTO, of_photos, shipped_views
from edge.workshop.export.network.architectures import architecture
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.network.input_options import AS_KNOWN, InputOptions
from edge.workshop.export.quantize.gpu_network import Gpu, Jetson, NoEngineError, Precision, make_fp16, make_int8
from edge.workshop.export.quantize.int8_network import QuantizedNetwork
from edge.workshop.export.quantize.ranges import Range, calibrated_ranges, data_free_ranges
from edge.workshop.export.weights.class_names import class_names
from edge.workshop.export.weights.state_dict import Weights

Step = Callable[[str], None]
Each = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Exported:
    """A new bundle, and how it compares with the network that it was made from."""

    directory: Path
    manifest: Manifest
    report: Report


@dataclass(frozen=True)
class _Candidate:
    """A traced model before it is compared with FP32."""

    script: torch.jit.ScriptModule
    model: Model  # `script`, called with a buffer of the processor's
    engine: Engine
    quantization: Quantization | None  # None for FP16


@dataclass(frozen=True)
class _Comparison:
    """What a candidate is compared on."""

    network: FloatNetwork  # FP32
    example: torch.Tensor  # the golden photo's buffer, (1, side, side, 3) uint8
    buffers: Iterable[torch.Tensor]  # of all pictures; can be read once
    given: int  # how many of them the user gave
    min_agreement: float  # percent


def export_bundle(
    weights: Weights,
    models: Path,
    *,
    target: Target | None = None,
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
    """Make a bundle in `models`; `current` is not touched.

    Args:
        weights: of an architecture that `ARCHITECTURES` has.
        models: the directory that the bundle's own directory appears in.
        target: instruction set; None is this machine's.
        precision: `auto` is INT8, or FP16 for a GPU that TensorRT cannot make INT8 for; the others insist.
        calibration: photos to find the ranges on; without any they come from the batch norms.
        photos: photos to measure the agreement with FP32 on; with fewer than 20 views of the shipped ones join them.
        min_agreement: percent; below it the model is refused. 0 lets any pass whose logits correlate with FP32's.
        golden: the photo that the bundle has to answer alike for ever.
        labels: the classes' names, one a line; None are ImageNet's.
        trained_on: what the network's input is, where that is not what its architecture's usually is.
        open_gpu: makes the GPU ready, for the target `jetson`.
        step: told what is being done.
        each: wraps a sequence of photos to show the progress through it.
        check: called with the bundle's directory before it appears in `models`; what it raises ends the export.

    Raises:
        WeightsError, PhotoError, BundleError, StateError: each says what to do.
    """
    target = target or host_target()
    if precision == "fp16" and target != "jetson":
        raise BundleError("FP16 is for a Jetson's GPU; add --target jetson, or leave --precision out.")
    gpu = open_gpu() if target == "jetson" else None
    engine: Engine = "tensorrt" if gpu else host_engine(target)
    small_pairs = needs_small_pairs(engine)
    if gpu is None:
        use_engine(engine, small_pairs=small_pairs)
    step("folding batch norms and normalisation into the convolutions")
    table = trained_on.applied_to(architecture(weights.architecture))
    network = fold_batch_norms(table, weights.state)
    if table != architecture(weights.architecture):  # nobody published what it is worth on this input
        origin = weights.origin.model_copy(update={"top1": None})
        weights = dataclasses.replace(weights, origin=origin)
    names = class_names(network.classes, labels)
    step("finding the ranges of the activations")
    contract = network.architecture.contract
    ranges = (
        calibrated_ranges(network, (buffer_of(read_photo(photo), contract) for photo in each(calibration)))
        if calibration
        else data_free_ranges(network)
    )
    quantization = Quantization(
        ranges="calibrated" if calibration else "data-free",
        photos=len(calibration),
        small_pairs=small_pairs,
        activations="int8" if gpu else host_activations(target),
    )
    example = buffer_of(read_photo(golden), contract)
    if gpu is not None:
        step("building the model for the GPU, which may take minutes")
        candidate = _on_gpu(network, ranges, example, gpu, quantization, precision, step)
    else:
        step(f"quantizing to INT8 ({quantization.activations} for the engine {engine})")
        script = _quantized_script(network, ranges, engine, quantization, example)
        candidate = _Candidate(script, script, engine, quantization)
    views = shipped_views(golden) if len(photos) < ENOUGH_PHOTOS else []
    pictures = each([*of_photos(photos), *views])
    buffers = (buffer_of(picture(), contract) for picture in pictures)
    made = _judged(candidate, _Comparison(network, example, buffers, len(photos), min_agreement), step)
    step("writing the bundle")
    directory, manifest, size = write_bundle(made, weights, models, target, golden, names, check)
    floats = sum(value.numel() for value in weights.state.values() if value.is_floating_point())
    report = Report(
        directory,
        target,
        made.engine,
        quantization.ranges if made.quantization else "none",
        size,
        floats * 4,
        made.latency,
        made.agreement,
        weights.origin.top1,
        precision="int8" if made.quantization else "fp16",
        instead_of=weights.origin.instead_of,
        classes=network.classes,
    )
    return Exported(directory, manifest, report)


def buffer_of(pixels: Pixels, contract: InputContract) -> torch.Tensor:
    """A fresh padded buffer with `pixels` in it, (1, side, side, 3) uint8."""
    buffer = new_buffer(contract)
    fill(buffer, pixels, contract)
    return buffer.tensor


def _on_gpu(
    network: FloatNetwork,
    ranges: dict[str, Range],
    example: torch.Tensor,
    gpu: Gpu,
    int8: Quantization,
    precision: Precision,
    step: Step,
) -> _Candidate:
    if precision != "fp16":
        try:
            model = make_int8(network, ranges, example, gpu)
            return _Candidate(model.script, model, "tensorrt", int8)
        except NoEngineError as error:
            if precision == "int8":
                raise
            step(f"{error.reason}, so this is FP16 instead of INT8; mend that and export again for INT8.")
    model = make_fp16(network, example, gpu)
    return _Candidate(model.script, model, "cuda", None)


def _judged(candidate: _Candidate, against: _Comparison, step: Step) -> Made:
    """Compare `candidate` with FP32.

    Raises:
        BundleError: FP32 is not sure of the golden photo, or the candidate differs too much from FP32.
    """
    network, example, model = against.network, against.example, candidate.model
    with known_deprecations(), torch.inference_mode():
        probabilities: Probabilities = model(example)[0].numpy()
        golden_classes(network(example)[0].numpy())  # where FP32 is not sure of the photo, no model can be
    precision: Judged = "INT8" if candidate.quantization else "FP16"
    step(f"comparing {precision} with FP32")
    verify(probabilities, network, example, precision)
    classes = golden_classes(probabilities)
    agreement = measure_agreement(model, network, against.buffers, against.given)
    refuse_below(against.min_agreement, agreement, precision)
    return Made(
        candidate.script,
        candidate.engine,
        candidate.quantization,
        network.architecture.contract,
        classes,
        agreement,
        measure_latency(model, network, example),
    )


def _quantized_script(
    network: FloatNetwork,
    ranges: dict[str, Range],
    engine: Engine,
    quantization: Quantization,
    example: torch.Tensor,
) -> torch.jit.ScriptModule:
    try:
        int8 = QuantizedNetwork(network, ranges, engine, quantization.activations, small_pairs=quantization.small_pairs)
        script = trace_script(int8, example)
        with known_deprecations(), torch.inference_mode():
            script(example)
            return script
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(
            f"torch {torch.__version__} cannot run this target's INT8 kernels here ({reason:.120});"
            " export on the device itself, or with a torch that can."
        ) from error
