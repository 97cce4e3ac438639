"""`edge-classifier doctor`: runs every check of `doctor_checks/` and prints a line for each, with a remedy.

To add a check, write its function there and call it in `findings`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from edge.board import host
from edge.commands.doctor_checks import broker, camera, disk, kernels, machine, model, page, service
from edge.commands.doctor_checks.finding import Finding
from edge.kernels import library
from edge.settings.schema import Settings

HELP = "check everything that the daemon needs, with a remedy for each problem"
DESCRIPTION = """\
Looks at the system, the engine's library, the model, the camera and its
colours, the broker, its access list and other boxes of our name, the page's
token, the clock, the power, the disk, what is written to it, the service and
its restarts; on ARM64 also at the kernels of our own, and on a Jetson at CUDA
and TensorRT (experimental: never run on a real board). Prints one line for
each, with a remedy for each problem. It does not disturb a running service,
and takes half a minute.

Exit codes: 0 all is well; 1 warnings: the daemon runs, but something is
missing or strained; 69 a failure: the daemon cannot run."""
MARKS = {"ok": "ok  ", "warning": "WARN", "failure": "FAIL"}
EXIT_CODES = {"ok": 0, "warning": 1, "failure": 69}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run every check and print its result at once; the exit code is that of the worst."""
    found = []
    for finding in findings(settings, arguments.config):
        found.append(finding)
        if not arguments.json:
            print(f"{MARKS[finding.severity]}  {finding.check:11} {finding.sentence}")
            if finding.remedy:
                print(f"{'':18}→ {finding.remedy}" if sys.stdout.encoding == "utf-8" else f"{'':18}{finding.remedy}")
            sys.stdout.flush()
    if arguments.json:
        print(json.dumps({"findings": [dataclasses.asdict(finding) for finding in found]}, ensure_ascii=False))
    return max(EXIT_CODES[finding.severity] for finding in found)


def findings(settings: Settings, config: Path | None) -> Iterator[Finding]:
    """Run one check after the other, the most basic first."""
    name = settings.device.name
    yield machine.userland()
    yield model.engine(settings)
    if model.is_jetson(host.ROOT):
        yield model.jetson()
    yield model.model(settings)
    if library.is_arm64():
        yield kernels.kernels()
    yield camera.camera(settings.camera, config)
    yield camera.colours(config)
    yield broker.broker(settings.mqtt, name)
    yield broker.access(settings.mqtt, name, settings.fallback)
    yield broker.twin(settings.mqtt, name)
    yield page.page(settings.web)
    yield machine.clock()
    yield machine.power()
    yield disk.space(settings.fallback)
    yield disk.writes(settings.fallback)
    yield service.service()
    yield service.restarts()
