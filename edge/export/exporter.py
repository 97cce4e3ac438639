"""From FP32 weights to a bundle: fold, find ranges, quantize, trace, check, write."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edge.errors import BundleError, StateError
from edge.export.bundle_writer import new_staging, publish, sha256_of
from edge.export.fold import fold
from edge.export.golden import LABELS as LABELS_FILE
from edge.export.golden import PHOTO, golden_classes
from edge.export.judge import measure_agreement, measure_latency
from edge.export.networks import ARCHITECTURES, Architecture
from edge.export.quantize import QuantizedNetwork
from edge.export.ranges import calibrated_ranges, data_free_ranges
from edge.export.report import Report
from edge.export.weights import Weights
from edge.frames import Pixels
from edge.vision.bundle import GOLDEN, LABELS, MODEL, InputContract, Manifest, Quantization
from edge.vision.engine import Target, host_activations, host_engine, host_target, use_engine
from edge.vision.photo import read_photo
from edge.vision.preprocess import fill, new_buffer
from edge.vision.torch_compat import known_deprecations, save_script, trace_script

Step = Callable[[str], None]
Each = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True)
class Exported:
    """A new bundle, and how it compares with the network that it was made from."""

    directory: Path
    manifest: Manifest
    report: Report


def architecture(name: str) -> Architecture:
    """The table of a network.

    Raises:
        BundleError: there is none of that name.
    """
    if name not in ARCHITECTURES:
        raise BundleError(f"There is no architecture {name}; choose from {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[name]()


def contract_of(network: Architecture) -> InputContract:
    """The buffer that `network` takes."""
    red, green, blue = (round(mean * 255) for mean in network.mean)
    return InputContract(size=network.size, resize=network.resize, border=network.border, border_rgb=(red, green, blue))


def export_bundle(
    weights: Weights,
    models: Path,
    *,
    target: Target | None = None,
    calibration: Sequence[Path] = (),
    photos: Sequence[Path] = (),
    golden: Path = PHOTO,
    step: Step = lambda _: None,
    each: Each = lambda photos: photos,
) -> Exported:
    """Make a bundle in `models`; `current` is not touched.

    Args:
        weights: of an architecture that `ARCHITECTURES` has.
        models: the directory that the bundle's own directory appears in.
        target: instruction set; None is this machine's.
        calibration: photos to find the ranges on; without any they come from the batch norms.
        photos: photos to measure the agreement with FP32 on.
        golden: the photo that the bundle has to answer alike for ever.
        step: told what is being done.
        each: wraps a sequence of photos to show the progress through it.

    Raises:
        WeightsError, PhotoError, BundleError, StateError: each says what to do.
    """
    target = target or host_target()
    engine = host_engine(target)
    use_engine(engine)
    activations = host_activations(target)
    step("folding batch norms and normalisation into the convolutions")
    network = fold(architecture(weights.architecture), weights.state)
    contract = contract_of(network.architecture)
    labels = LABELS_FILE.read_text(encoding="utf-8").splitlines()
    if network.classes != len(labels):
        raise BundleError(
            f"These weights know {network.classes} classes and there are {len(labels)} labels;"
            " use weights trained on ImageNet-1k."
        )
    step("finding the ranges of the activations")
    ranges = (
        calibrated_ranges(network, (buffer_of(read_photo(photo), contract) for photo in each(calibration)))
        if calibration
        else data_free_ranges(network)
    )
    example = buffer_of(read_photo(golden), contract)
    step(f"quantizing to INT8 ({activations} for the engine {engine})")
    script, probabilities = _quantized_script(QuantizedNetwork(network, ranges, engine, activations), example)
    classes = golden_classes(probabilities)
    step("comparing INT8 with FP32")
    agreement = measure_agreement(script, network, (buffer_of(read_photo(photo), contract) for photo in each(photos)))
    latency = measure_latency(script, network, example)
    step("writing the bundle")
    staging = new_staging(models)
    try:
        save_script(script, staging / MODEL)
        shutil.copyfile(LABELS_FILE, staging / LABELS)
        shutil.copyfile(golden, staging / GOLDEN)
        manifest = Manifest(
            architecture=weights.architecture,
            target=target,
            engine=engine,
            torch=torch.__version__,
            files={file: sha256_of(staging / file) for file in (MODEL, LABELS, GOLDEN)},
            weights=weights.origin,
            quantization=Quantization(
                ranges="calibrated" if calibration else "data-free",
                photos=len(calibration),
                levels=128 if engine == "fbgemm" else 256,
                activations=activations,
            ),
            input=contract,
            golden=classes,
            agreement=agreement,
        )
        size = (staging / MODEL).stat().st_size
        directory = publish(staging, manifest)
    except OSError as error:
        raise StateError(f"{models} cannot be written ({error.strerror}); free some space and export again.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    floats = sum(value.numel() for value in weights.state.values() if value.is_floating_point())
    ranges_from = manifest.quantization.ranges
    return Exported(
        directory, manifest, Report(directory, target, engine, ranges_from, size, floats * 4, latency, agreement)
    )


def buffer_of(pixels: Pixels, contract: InputContract) -> torch.Tensor:
    """A fresh padded buffer with `pixels` in it, (1, side, side, 3) uint8."""
    buffer = new_buffer(contract)
    fill(buffer, pixels, contract)
    return buffer.tensor


def _quantized_script(
    network: QuantizedNetwork, example: torch.Tensor
) -> tuple[torch.jit.ScriptModule, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    try:
        script = trace_script(network, example)
        with known_deprecations(), torch.inference_mode():
            return script, script(example)[0].numpy()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(
            f"torch {torch.__version__} cannot run this target's INT8 kernels here ({reason:.120});"
            " export on the device itself, or with a torch that can."
        ) from error
