"""Defaults that depend on the machine: the paths of the settings, the state and the model, and the device's name."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

SYSTEM_STATE = Path("/var/lib/edge-classifier")
DEFAULT_CONFIG = Path("/etc/edge-classifier/config.toml")


def state_directory() -> Path:
    """The directory for what must survive a restart.

    The first of: `$STATE_DIRECTORY`, which systemd sets; `state` in the virtual environment, which
    `./install.sh --try` makes; the system's directory, if it is writable; the user's own.
    """
    if chosen := os.environ.get("STATE_DIRECTORY"):
        return Path(chosen.split(":")[0])
    if sys.prefix != sys.base_prefix and os.access(own := Path(sys.prefix) / "state", os.W_OK):
        return own
    if os.access(SYSTEM_STATE, os.W_OK):
        return SYSTEM_STATE
    home = os.environ.get("XDG_STATE_HOME") or home_directory(".local/state")
    return Path(home) / "edge-classifier" if home else SYSTEM_STATE


def home_directory(below: str) -> Path | None:
    """A directory in the user's home; None where the user has none, such as an unknown one in a container."""
    try:
        return Path("~", below).expanduser()
    except RuntimeError:
        return None


def default_bundle() -> Path:
    """The link to the bundle in use: in the state directory, else in the system's, which every user may read."""
    own, system = (root / "models" / "current" for root in (state_directory(), SYSTEM_STATE))
    return system if not os.access(own, os.R_OK) and os.access(system, os.R_OK) else own


def default_device_name() -> str:
    """A name that stays the same on this machine without revealing its machine id."""
    try:
        machine_id = Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        machine_id = ""
    # machine-id(5) asks programs to publish a hash, not the id itself.
    return "edge-" + hashlib.sha256(b"edge-classifier" + machine_id.encode()).hexdigest()[:6]
