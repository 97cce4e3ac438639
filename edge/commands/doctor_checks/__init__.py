"""The checks of `doctor`. Each is a function that returns a `Finding`, with a remedy for a problem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.board import host
from edge.commands.doctor_checks import broker, camera, disk, machine, model, service
from edge.commands.doctor_checks.finding import Finding
from edge.settings.schema import Settings


def every_check(settings: Settings, config: Path | None) -> list[Callable[[], Finding]]:
    """All checks, the most basic first."""
    name = settings.device.name
    return [
        machine.userland,
        model.torch,
        *([model.jetson] if model.is_jetson(host.ROOT) else []),
        lambda: model.model(settings),
        lambda: camera.camera(settings.camera, config),
        lambda: camera.colours(config),
        lambda: broker.broker(settings.mqtt, name),
        lambda: broker.access(settings.mqtt, name, settings.fallback),
        lambda: broker.twin(settings.mqtt, name),
        machine.clock,
        machine.power,
        lambda: disk.space(settings),
        lambda: disk.writes(settings),
        service.service,
        service.restarts,
    ]
