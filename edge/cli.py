"""The command line: arguments, dispatch and exit codes."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from edge import __version__
from edge.board.openmp import spin_briefly
from edge.commands import standard_streams
from edge.commands.config_option import add_config_option
from edge.errors import EdgeClassifierError, OutputError, UnreadableConfigError
from edge.settings.defaults import DEFAULT_CONFIG
from edge.settings.schema import Settings
from edge.settings.toml_file import load_settings

COMMANDS = ("run", "export", "classify", "evaluate", "bench", "models", "fallback", "config", "doctor", "forget", "try")
# These need only a model, which every user may read. A user who may not read the config gets the defaults.
FOR_EVERY_USER = ("classify", "evaluate", "bench", "export", "try")
# What the machine or the user lacks, and what to do. A traceback would not explain more.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "run as a user who has this right"),
    errno.EROFS: "name a place that can be written",
    errno.EFBIG: "raise the limit on a file's size (`ulimit -f`)",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.EAGAIN: "raise the limit on processes (`ulimit -u`)",
    errno.ENOMEM: "free memory",
}
DESCRIPTION = """\
Classifies what a camera sees and publishes the labels over MQTT. Events that
the broker has not acknowledged wait on disk."""
EPILOG = f"""\
Every command reads --config FILE (default: {DEFAULT_CONFIG},
and the built-in defaults where there is none). A variable named
EDGE_CLASSIFIER_<SECTION>_<KEY>, such as EDGE_CLASSIFIER_MQTT_URL, overrides
a key.

Exit codes: 0 done; 1 unexpected failure; 2 wrong arguments; 65 bad bundle,
weights or data; 66 bad photo; 69 camera or broker cannot be reached; 73 state
directory cannot be written; 74 output cannot be written; 75 stuck, start
again; 78 bad configuration.

`edge-classifier COMMAND --help` explains each command."""


def command_module(name: str) -> ModuleType:
    """The module of a command; `try` is a keyword, so its module is `try_`."""
    return importlib.import_module(f"edge.commands.{name}{'_' if name == 'try' else ''}")


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; command modules import nothing heavy at their top."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("edge-classifier", description=DESCRIPTION, epilog=EPILOG, formatter_class=form)
    parser.add_argument("--version", action="version", version=f"edge-classifier {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name in COMMANDS:
        module = command_module(name)
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION, formatter_class=form)
        command.set_defaults(config=None)
        add_config_option(command)
        module.add_arguments(command)
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    try:
        return load_settings(arguments.config)
    except UnreadableConfigError:
        if arguments.config is not None or arguments.command not in FOR_EVERY_USER:
            raise
        warning = f"{DEFAULT_CONFIG} may not be read by this user; the built-in defaults are in effect."
        standard_streams.print_error(warning)
        return load_settings(Path(os.devnull))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    standard_streams.prepare()
    spin_briefly()  # before a command imports torch or OpenCV
    _leave_missing_directory()
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has closed the pipe, as `head` does
        standard_streams.drop_unwritten(sys.stdout)
        return 141
    except OutputError as error:
        standard_streams.drop_unwritten(sys.stdout)
        standard_streams.print_error(str(error))
        return error.exit_code


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    try:
        return build_parser().parse_args(argv)
    except BrokenPipeError:
        raise
    except OSError:  # wrong arguments, and a standard error that takes no more, which argparse lets pass from 3.12 on
        sys.exit(2)


def _leave_missing_directory() -> None:
    """Go to the root directory if the current one was deleted: libraries fail there, and MKL ends the process."""
    try:
        Path.cwd()
    except FileNotFoundError:
        os.chdir("/")


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parse(argv)
        settings = _settings(arguments)
        return _run_command(arguments, settings)
    except SystemExit:  # of --help, --version or wrong arguments
        standard_streams.flush_errors()
        sys.stdout.flush()
        raise
    except OutputError:
        raise
    except EdgeClassifierError as error:
        standard_streams.print_error(str(error))
        return error.exit_code
    except ImportError as error:  # such as torch's where memory is limited, or a library of the system is missing
        remedy = "`edge-classifier doctor` shows more, and ./install.sh repairs it"
        sentence = f"A package that this command needs cannot be imported ({error}); {remedy}."
        if error.name == "torch":  # a box with another engine
            remedy = "run it on another machine, or install torch with: ./install.sh --engine torchscript"
            sentence = f"`{arguments.command}` needs torch for this, which is not installed here; {remedy}"
        standard_streams.print_error(sentence)
        return 1
    except KeyboardInterrupt:
        return 130


def _run_command(arguments: argparse.Namespace, settings: Settings) -> int:
    try:
        code: int = command_module(arguments.command).run(arguments, settings)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0)
        if remedy is None or arguments.command == "run":  # the daemon's journal gets the traceback
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise EdgeClassifierError(f"`{arguments.command}` cannot go on ({what}); {remedy}.") from error
    return code
