"""FP32 weights to a bundle, step by step: fold, find ranges, quantize, trace, compare with FP32, write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from edge.board.processor import InstructionSet, host_target
from edge.errors import BundleError
from edge.frames import Pixels
from edge.photos.decode import read_photo
from edge.vision.bundle import GOLDEN, HEAD, LABELS, TRUNK
from edge.vision.engines.torch_session import TorchSession
from edge.vision.manifest import Ancestor, Engine, GoldenClass, InputContract, Manifest, Origin, Quantization, Target
from edge.vision.preprocess import fill, new_buffer
from edge.workshop.export.bundle_writer import write_bundle
from edge.workshop.export.candidates import Candidate, choose, head_of, judge, make_candidate, measured, time_in_turns
from edge.workshop.export.engine_names import AUTO, ENGINE_NAMES, FASTEST, TIMING_S
from edge.workshop.export.judge.agreement import Judged, measure_latency
from edge.workshop.export.judge.limits import ENOUGH_PHOTOS, MIN_AGREEMENT
from edge.workshop.export.judge.report import Exported
from edge.workshop.export.judge.views import GOLDEN_PHOTO, of_photos, shipped_views
from edge.workshop.export.network.architectures import architecture
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.network.input_options import AS_KNOWN, InputOptions
from edge.workshop.export.quantize.gpu_network import Gpu, Jetson, NoEngineError, Precision, make_fp16, make_int8
from edge.workshop.export.quantize.ranges import Range, calibrated_ranges, data_free_ranges
from edge.workshop.export.recipes import Refused, recipes
from edge.workshop.export.weights.class_names import class_names
from edge.workshop.export.weights.state_dict import Weights

Step = Callable[[str], None]
Each = Callable[[Sequence[Any]], Iterable[Any]]

_UNANSWERED = (GoldenClass(index=0, confidence=0), GoldenClass(index=1, confidence=0))


def export_bundle(
    weights: Weights,
    models: Path,
    *,
    target: InstructionSet | Literal["jetson"] | None = None,
    precision: Precision = "auto",
    engine: str | None = None,
    timing_s: float = TIMING_S,
    threads: int = 0,
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
        engine: `auto`, `fastest` or a name of `ENGINE_NAMES`, as `--engine` takes them; None for the engine that is
            usually the fastest, without a comparison.
        timing_s: for how long each engine that is compared is timed, in seconds.
        threads: of an inference; 0: one for each processor.
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
    if target == "jetson" and engine in ENGINE_NAMES:
        raise BundleError(f"{engine} computes on the processor; leave out --engine, or --target jetson.")
    gpu = open_gpu() if target == "jetson" else None
    step("folding batch norms and normalisation into the convolutions")
    usual = architecture(weights.architecture)
    table = trained_on.applied_to(usual)
    network = fold_batch_norms(table, weights.state)
    names = class_names(network.classes, labels)
    step("finding the ranges of the activations")
    contract = table.contract
    ranges = _ranges(network, calibration, each)
    example = buffer_of(read_photo(golden), contract)
    # The published accuracy is that on the usual input.
    origin = weights.origin if table == usual else weights.origin.model_copy(update={"top1": None})
    draft = _draft(network, target, origin, len(calibration))
    threads = threads or len(os.sched_getaffinity(0))
    refused: list[Refused] = []
    if gpu is not None:
        step("building the model for the GPU, which may take minutes")
        candidates = [_on_gpu(draft, network, ranges, example, gpu, precision, step)]
    else:
        assert target != "jetson"
        candidates, refused = _on_cpu(draft, network, ranges, example, engine, target, threads, step)
        _time(candidates, engine, target, example, timing_s, step)
    judged: Judged = "INT8" if candidates[0].manifest.quantization else "FP16"
    step(f"comparing {judged} with FP32")
    views = shipped_views(golden) if len(photos) < ENOUGH_PHOTOS else []
    buffers = (buffer_of(picture(), contract) for picture in each([*of_photos(photos), *views]))
    judge(candidates, network, example, buffers, len(photos), min_agreement, judged)
    chosen = choose(candidates)
    assert chosen.agreement is not None
    latency = measure_latency(chosen, network, example)
    step("writing the bundle")
    contents = {
        "trunk": (chosen.file, chosen.trunk),
        "head": (HEAD, chosen.head.to_bytes()),
        "labels": (LABELS, "".join(f"{name}\n" for name in names).encode()),
        "golden": (GOLDEN, golden.read_bytes()),
    }
    manifest = chosen.manifest.model_copy(
        update={
            "golden": chosen.golden,
            "agreement": chosen.agreement,
            "measured": measured(chosen, candidates, refused, threads),
        }
    )
    directory, manifest = write_bundle(contents, manifest, models, check)
    floats = sum(value.numel() for value in weights.state.values() if value.is_floating_point())
    model_bytes = sum(len(contents[role][1]) for role in ("trunk", "head"))
    return Exported(
        directory, manifest, chosen.agreement, latency, model_bytes, fp32_bytes=floats * 4, classes=network.classes
    )


def _ranges(network: FloatNetwork, photos: Sequence[Path], each: Each) -> dict[str, Range]:
    """The ranges of the activations: on the photos if there are any, else from the batch norms."""
    if not photos:
        return data_free_ranges(network)
    contract = network.architecture.contract
    buffers = (torch.from_numpy(buffer_of(read_photo(photo), contract)) for photo in each(photos))
    return calibrated_ranges(network, buffers)


def _draft(network: FloatNetwork, target: Target, origin: Origin, calibrated_on: int) -> Manifest:
    """A manifest without engine, files, answers to the golden photo and agreement."""
    ranges: Literal["calibrated", "data-free"] = "calibrated" if calibrated_on else "data-free"
    how = f"export, {ranges} ranges"
    return Manifest(
        architecture=network.architecture.name,
        target=target,
        engine=Engine(name="none"),
        files={},
        features=network.features,
        weights=origin,
        lineage=(Ancestor(kind="weights", name=origin.source, sha256=origin.sha256, how=how),),
        quantization=Quantization(ranges=ranges, photos=calibrated_on, activations="int8"),
        input=network.architecture.contract,
        golden=_UNANSWERED,
    )


def buffer_of(pixels: Pixels, contract: InputContract) -> Pixels:
    """A new padded buffer with `pixels` in it, (1, side, side, 3) uint8."""
    buffer = new_buffer(contract)
    fill(buffer, pixels, contract)
    return buffer.pixels


def _on_gpu(
    draft: Manifest,
    network: FloatNetwork,
    ranges: dict[str, Range],
    example: Pixels,
    gpu: Gpu,
    precision: Precision,
    step: Step,
) -> Candidate:
    pixels = torch.from_numpy(example)
    trunk, change = b"", dict[str, object]()
    if precision != "fp16":
        try:
            trunk = make_int8(network, ranges, pixels, gpu)
            change = {"engine": _engine("tensorrt")}
        except NoEngineError as error:
            if precision == "int8":
                raise
            step(f"{error.reason}, so this is FP16 instead of INT8; fix that and export again for INT8.")
    if not trunk:
        trunk = make_fp16(network, pixels, gpu)
        change = {"engine": _engine("cuda"), "precision": "fp16", "quantization": None}
    manifest = draft.model_copy(update=change)
    session = TorchSession(manifest, {"trunk": trunk}, place=gpu.place)
    return Candidate("cuda", manifest, TRUNK, trunk, session, head_of(network))


def _engine(kernels: str) -> Engine:
    return Engine(name="cuda", options={"kernels": kernels}, library=f"torch {torch.__version__}")


def _on_cpu(
    draft: Manifest,
    network: FloatNetwork,
    ranges: dict[str, Range],
    example: Pixels,
    engine: str | None,
    target: InstructionSet,
    threads: int,
    step: Step,
) -> tuple[list[Candidate], list[Refused]]:
    """The candidates, and the engines for which there is none.

    Raises:
        BundleError: there is no candidate.
    """
    if engine in (AUTO, FASTEST) and target != host_target():
        step(f"engines for {target} cannot be timed on this machine, so the one that is usually the fastest is taken")
        engine = None
    possible, refused = recipes(engine, target, network)
    candidates: list[Candidate] = []
    for recipe in possible:
        step(f"quantizing to INT8 ({recipe.activations} for the engine {recipe.name})")
        try:
            candidates.append(make_candidate(recipe, draft, network, ranges, example, threads))
        except (BundleError, RuntimeError) as error:
            if len(possible) == 1:
                raise
            refused.append(Refused(recipe.name, recipe.engine, str(error).strip().splitlines()[0].rstrip(".")))
    if not candidates:
        raise BundleError(f"No engine can run the model here ({refused[0].name}: {refused[0].reason}).")
    return candidates, refused


def _time(
    candidates: Sequence[Candidate], engine: str | None, target: str, example: Pixels, seconds: float, step: Step
) -> None:
    """Time the candidates, unless the engine was not to be compared or is for another machine."""
    if engine is None or target != host_target():
        return
    step(f"timing {', '.join(candidate.name for candidate in candidates)}")
    time_in_turns(candidates, example, seconds)
