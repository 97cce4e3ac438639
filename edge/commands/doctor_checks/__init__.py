"""The checks of `doctor`. Each is a function that returns a `Finding`, with a remedy for a problem.

To add one, write its function and call it in `findings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge.board import host
from edge.commands.doctor_checks import broker, camera, disk, machine, model, service
from edge.commands.doctor_checks.finding import Finding
from edge.settings.schema import Settings


def findings(settings: Settings, config: Path | None) -> Iterator[Finding]:
    """Make one check after the other, the most basic first."""
    name = settings.device.name
    yield machine.userland()
    yield model.torch()
    if model.is_jetson(host.ROOT):
        yield model.jetson()
    yield model.model(settings)
    yield camera.camera(settings.camera, config)
    yield camera.colours(config)
    yield broker.broker(settings.mqtt, name)
    yield broker.access(settings.mqtt, name, settings.fallback)
    yield broker.twin(settings.mqtt, name)
    yield machine.clock()
    yield machine.power()
    yield disk.space(settings.fallback)
    yield disk.writes(settings.fallback)
    yield service.service()
    yield service.restarts()
