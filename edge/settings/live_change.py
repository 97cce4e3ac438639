"""Which changes of the settings a reload applies to the running daemon."""

from __future__ import annotations

from edge.settings.schema import Settings


def live_change(running: Settings, wanted: Settings) -> tuple[Settings, list[str]]:
    """Split a reload into what applies at once and what needs a restart.

    `[decision]`, `[log]` and `camera.fps` apply at once.

    Returns:
        The running settings with those changes, and each other changed key as `section.key`.
    """
    camera = running.camera.model_copy(update={"fps": wanted.camera.fps})
    applied = running.model_copy(update={"decision": wanted.decision, "log": wanted.log, "camera": camera})
    waiting = [
        f"{section}.{key}"
        for section in Settings.model_fields
        for key in type(getattr(wanted, section)).model_fields
        if getattr(getattr(applied, section), key) != getattr(getattr(wanted, section), key)
    ]
    return applied, waiting
