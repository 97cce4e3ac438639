"""The option `--config` of every command, and of every action of a command."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.settings.defaults import DEFAULT_CONFIG


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE`. It may stand before or after an action; the later one counts."""
    # SUPPRESS, so that an action without the option does not overwrite the command's.
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"settings (default: {DEFAULT_CONFIG})",
    )
