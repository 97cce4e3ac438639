"""The option `--config`, which every command and every action of a command has."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.settings.defaults import DEFAULT_CONFIG


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE`. It may stand before and after an action; the later one counts."""
    # SUPPRESS, so that an action without the option does not overwrite the command's.
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"settings (default: {DEFAULT_CONFIG})",
    )
