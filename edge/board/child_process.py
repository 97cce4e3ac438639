"""Starts Python child processes that import the same packages as this one, as another user where root must not."""

from __future__ import annotations

import grp
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EDGE = "from edge.cli import main; sys.exit(main())"  # the program `edge-classifier`
GPU_GROUPS = ("video", "render")  # own the GPU's device files on a Jetson
WITHIN_S = 60.0  # importing torch takes 30 s on a Zero 2 W


def fresh_python(program: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command line that runs `program` with this Python and this process's `sys.path`.

    `python -c` and `-m` put the current directory first on `sys.path`, so that root in /tmp would import a json.py
    that another user left there. -P prevents that from Python 3.11 on only, and removing the directory inside the
    program is too late in 3.13, which imports linecache earlier. -I works in every version, but also drops
    PYTHONPATH and the user's packages; the program therefore starts by restoring `sys.path`.

    Args:
        program: Python source; `sys` is imported already.
        arguments: become `sys.argv[1:]`.
        options: for the interpreter.
    """
    path = [place for place in sys.path if Path(place).is_absolute()]
    return [sys.executable, "-I", *options, "-c", f"import sys\nsys.path[:] = {path!a}\n{program}", *arguments]


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of `run_apart`."""

    code: int
    output: str
    last_line: str  # of standard error, or why the process ended


def run_apart(program: str, *arguments: str, within_s: float = WITHIN_S, code: Path | None = None) -> Ran:
    """Run Python source in a child process, so that an illegal instruction or a blocked driver does not end this one.

    Args:
        program: Python source; `sys` is imported already.
        arguments: become `sys.argv[1:]`.
        within_s: seconds after which the process is killed.
        code: what the program loads and executes, such as a bundle. If another user may change it, root runs the
            program as that user.
    """
    command = fresh_python(program, *arguments, options=("-W", "ignore"))
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",  # a driver may write anything
            timeout=within_s,
            check=False,
            **_as_owner_of(code),
        )
    except subprocess.TimeoutExpired:
        return Ran(1, "", f"no answer within {within_s:.0f} s")
    except OSError as error:
        return Ran(1, "", f"{sys.executable} cannot be run as the owner of {code} ({error.strerror})")
    if ran.returncode == -signal.SIGILL:
        return Ran(ran.returncode, "", "it dies with an illegal instruction on this processor")
    last_line = (ran.stderr.strip().splitlines() or [""])[-1]
    if ran.returncode < 0:
        ended = f"it was ended by signal {-ran.returncode} ({signal.strsignal(-ran.returncode)})"
        if ran.returncode == -signal.SIGKILL:
            ended += ", as the system does where memory runs out"
        last_line = f"{ended}: {last_line}" if last_line else ended
    return Ran(ran.returncode, ran.stdout.strip(), last_line or f"exit code {ran.returncode}")


def _as_owner_of(code: Path | None) -> dict[str, Any]:
    """Arguments for `subprocess.run` that drop root's rights to the user who may change `code`; {} if only root may."""
    if code is None or os.geteuid() != 0 or Path("/").stat().st_uid != 0:  # or root of a user namespace only
        return {}
    # Both the path as given and the resolved one: the owner of a directory on either can replace what is below it.
    for path in (code.absolute(), Path(os.path.realpath(code))):
        for part in (*reversed(path.parents), path):
            try:
                owner = part.lstat()
            except OSError:
                break  # it is missing; the program will report that
            if owner.st_uid != 0:
                groups = [group.gr_gid for group in grp.getgrall() if group.gr_name in GPU_GROUPS]
                # A new session, so that it cannot write into the input of root's terminal.
                return {
                    "user": owner.st_uid,
                    "group": owner.st_gid,
                    "extra_groups": groups,
                    "start_new_session": True,
                    "stdin": subprocess.DEVNULL,
                }
    return {}
