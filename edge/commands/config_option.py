"""The option that every command and every action of a command takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.settings.defaults import DEFAULT_CONFIG


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE`; given before an action and after it, the later one counts."""
    # Without a default, an action that was not given the option leaves alone what its command was given.
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"settings (default: {DEFAULT_CONFIG})",
    )
