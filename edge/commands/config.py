"""`edge-classifier config`: checks the config file, or prints the settings in effect."""

from __future__ import annotations

import argparse
import json

from edge.commands.config_option import add_config_option
from edge.settings.defaults import DEFAULT_CONFIG
from edge.settings.schema import Settings
from edge.settings.toml_file import masked, to_toml

HELP = "check the config file, or show what is in effect"
DESCRIPTION = """\
check  reads the config file and reports every error at once, with its line.
show   prints the settings in effect as TOML: the file, over the defaults,
       under EDGE_CLASSIFIER_<SECTION>_<KEY> from the environment. Secrets are
       masked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `check` and `show`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|show")
    for name, text in (("check", "report every error at once"), ("show", "print the settings in effect")):
        action = actions.add_parser(name, help=text, description=text.capitalize() + ".")
        add_config_option(action)
        action.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the result. `cli.py` has read the settings already and has reported all errors in them."""
    if arguments.action == "show":
        print(json.dumps(masked(settings)) + "\n" if arguments.json else to_toml(settings), end="")
        return 0
    path = arguments.config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    if arguments.json:
        print(json.dumps({"ok": True, "file": str(path) if path else None}))
    else:
        print(f"{path} is good." if path else f"There is no {DEFAULT_CONFIG}; the built-in defaults are in effect.")
    return 0
