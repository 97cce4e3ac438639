"""FP32 weights to a bundle, step by step: fold, find ranges, quantize, trace, compare with FP32, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge.errors import BundleError
from edge.frames import Pixels
from edge.photos.decode import read_photo
from edge.vision.bundle import MODEL, Engine, InputContract, Manifest, Quantization, Target
from edge.vision.engine import host_activations, host_engine, host_target, needs_small_pairs, use_engine
from edge.vision.preprocess import fill, new_buffer
from edge.vision.torch_compat import known_deprecations, trace_script
from edge.workshop.export.bundle_writer import write_bundle
from edge.workshop.export.judge.agreement import (
    Judged,
    Model,
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
from edge.workshop.export.quantize.int8_network import QuantizedNetwork
from edge.workshop.export.quantize.ranges import Range, calibrated_ranges, data_free_ranges
from edge.workshop.export.weights.class_names import class_names
from edge.workshop.export.weights.state_dict import Weights

Step = Callable[[str], None]
Each = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class _Candidate:
    """A traced model before it is compared with FP32."""

    script: torch.jit.ScriptModule
    model: Model  # `script`, for a buffer in the CPU's memory
    engine: Engine
    quantization: Quantization | None  # None for FP16


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
    engine: Engine = "tensorrt" if gpu else host_engine(target)
    small_pairs = needs_small_pairs(engine)
    if gpu is None:
        use_engine(engine, small_pairs=small_pairs)
    step("folding batch norms and normalisation into the convolutions")
    usual = architecture(weights.architecture)
    table = trained_on.applied_to(usual)
    network = fold_batch_norms(table, weights.state)
    names = class_names(network.classes, labels)
    step("finding the ranges of the activations")
    contract = table.contract
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
        candidate = _on_cpu(network, ranges, example, engine, quantization)
    judged: Judged = "INT8" if candidate.quantization else "FP16"
    step(f"comparing {judged} with FP32")
    classes = verify_golden(candidate.model, network, example, judged)
    views = shipped_views(golden) if len(photos) < ENOUGH_PHOTOS else []
    buffers = (buffer_of(picture(), contract) for picture in each([*of_photos(photos), *views]))
    agreement = measure_agreement(candidate.model, network, buffers, len(photos))
    refuse_below(min_agreement, agreement, judged)
    latency = measure_latency(candidate.model, network, example)
    step("writing the bundle")
    manifest = Manifest(
        architecture=table.name,
        precision="int8" if candidate.quantization else "fp16",
        target=target,
        engine=candidate.engine,
        torch=torch.__version__,
        files={},  # `write_bundle` adds them
        # The published accuracy is that on the usual input.
        weights=weights.origin if table == usual else weights.origin.model_copy(update={"top1": None}),
        quantization=candidate.quantization,
        input=contract,
        golden=classes,
        agreement=agreement,
    )
    directory, manifest = write_bundle(candidate.script, manifest, names, golden, models, check)
    floats = sum(value.numel() for value in weights.state.values() if value.is_floating_point())
    model_bytes = (directory / MODEL).stat().st_size
    return Exported(
        directory, manifest, agreement, latency, model_bytes, fp32_bytes=floats * 4, classes=network.classes
    )


def buffer_of(pixels: Pixels, contract: InputContract) -> torch.Tensor:
    """A new padded buffer with `pixels` in it, (1, side, side, 3) uint8."""
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
            step(f"{error.reason}, so this is FP16 instead of INT8; fix that and export again for INT8.")
    model = make_fp16(network, example, gpu)
    return _Candidate(model.script, model, "cuda", None)


def _on_cpu(
    network: FloatNetwork, ranges: dict[str, Range], example: torch.Tensor, engine: Engine, quantization: Quantization
) -> _Candidate:
    try:
        int8 = QuantizedNetwork(network, ranges, engine, quantization.activations, small_pairs=quantization.small_pairs)
        script = trace_script(int8, example)
        with known_deprecations(), torch.inference_mode():
            script(example)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(
            f"torch {torch.__version__} cannot run this target's INT8 kernels here ({reason:.120});"
            " export on the device itself, or with a torch that can."
        ) from error
    return _Candidate(script, script, engine, quantization)
