"""`edge-classifier bench`: measures how fast the bundle is on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import BundleError, ConfigError
from edge.settings.schema import Settings

if TYPE_CHECKING:
    from edge.workshop.bench.result import InstalledBundle, Result

INSTALLED_SHARE = 0.2  # of the time, where several bundles are compared

HELP = "measure speed, memory and start on this machine"
DESCRIPTION = """\
Measures the bundle in use on this machine: the time of each stage, the frames
a second that all stages reach together, memory, thread counts, the time from
the start of a process to its first label, the photos a second of `classify`,
and the time from a photo's upload to its answer. The output names the hardware
and software. If the board was throttled during the run, the first line warns of
it. A Pi that was throttled since boot does not record another time: reboot it
before an important run.

The frames come from the bundle's golden photo, from --photos, or from the
configured camera (--camera) without its limit of frames a second. `sustained`
is the whole daemon, whose capture thread reads and decodes each frame anew. A
camera may be slower than the model; the line `frames` shows how many frames it
gave. `from memory` is the same without capture and decoding, as on a board
whose camera delivers small frames that need neither.

The last bars are one inference with 1 thread to as many as there are
processors. `busy` is the same beside one busy loop for each processor, as
other programs on the box would be.

Where several bundles are installed and --model names none, they are compared
too: each runs in a process of its own, and they are measured in turn.

For the uploads the page runs on a free port of this machine only. One client,
then four at once, send the bundle's golden photo to /predict. The last table
has the columns of published comparisons; the rows of other programs name their
sources.

--share FILE also writes the result for others to FILE, with the board, the
system and the kernels, but without any name of this box, its user, its files or
its network. Nothing is sent anywhere: attach the file to an issue of the
repository that you cloned. --compare reads such a file too.

If a broker answers, events are published to it on `<base>/<device>/bench`,
which has no subscribers. Stop the daemon first: it would use the same
processors.

  edge-classifier bench --json > before.json
  edge-classifier bench --compare before.json --plot chart.svg"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bench`."""
    parser.add_argument("--model", type=Path, metavar="BUNDLE", help="a bundle's directory (default: model.bundle)")
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument("--photos", type=Path, metavar="DIR", help="photos, or a video, as the camera")
    pictures.add_argument("--camera", action="store_true", help="the configured camera")
    parser.add_argument("--seconds", type=_seconds, default=20.0, help="duration, without process starts (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="compare with the output of an earlier --json")
    parser.add_argument("--share", type=Path, metavar="FILE", help="write a file for others, without personal data")
    parser.add_argument("--plot", type=_chart, metavar="FILE", help="draw a bar chart, .svg or .png")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Measure, then print, compare and draw."""
    from edge.workshop.bench.result import read_result
    from edge.workshop.bench.share import refuse_to_overwrite, write_shared
    from edge.workshop.bench.table import compared, comparison, table

    # Read before the measurement, so that a wrong file does not cost a minute.
    old = read_result(arguments.compare) if arguments.compare else None
    if arguments.photos is not None and not arguments.photos.exists():
        raise ConfigError(f"There is no {arguments.photos}; name a folder of photos, a photo or a video.")
    if arguments.share is not None:
        refuse_to_overwrite(arguments.share)
    result = _measured(arguments, settings)
    _show_progress("")
    if arguments.plot:
        from edge.workshop.charts import draw_benchmark

        draw_benchmark([result, old] if old else [result], arguments.plot)
    if arguments.json:
        print((compared(old, result) if old else result).to_json())
    else:
        print(comparison(old, result) if old else table(result))
    if arguments.share is not None:
        write_shared(result, arguments.share, [settings.device.name, settings.mqtt.username])
        written = f"{arguments.share} is written, without a name of this box or its user; attach it to an issue."
        print(written, file=sys.stderr)
    return 0


def _measured(arguments: argparse.Namespace, settings: Settings) -> Result:
    """The result; where several bundles are installed and none was named, with a comparison of them."""
    from edge.vision.bundle import load_bundle
    from edge.vision.installed import installed_bundles
    from edge.workshop.bench.installed import compare_installed
    from edge.workshop.bench.table import installed_table

    directory, seconds = arguments.model or settings.model.bundle, arguments.seconds
    installed: tuple[InstalledBundle, ...] = ()
    if arguments.model is None and len(installed_bundles(settings.model).names()) > 1:
        load_bundle(directory)  # a bundle in use that is missing or damaged is reported at once
        # Before this process takes memory for a model.
        share_s = seconds * INSTALLED_SHARE
        installed = compare_installed(installed_bundles(settings.model), settings.model, share_s, _show_progress)
        seconds -= share_s
    from edge.workshop.bench.benchmark import run_benchmark

    try:
        result = run_benchmark(
            settings,
            directory,
            seconds,
            given=arguments.model is not None,
            photos=arguments.photos,
            configured_camera=arguments.camera,
            progress=_show_progress,
        )
    except BundleError:  # the others may run here
        _show_progress("")
        if installed and not arguments.json:
            print(*installed_table(installed), sep="\n")
        raise
    return result.model_copy(update={"installed": installed})


def _show_progress(step: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[Kmeasuring: {step} …" if step else "\r\x1b[K", end="", file=sys.stderr, flush=True)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError("must be more than 0 and at most 3600")
    return seconds


def _chart(text: str) -> Path:
    if Path(text).suffix.lower() not in (".svg", ".png"):
        raise argparse.ArgumentTypeError("must end in .svg or .png")
    return Path(text)
