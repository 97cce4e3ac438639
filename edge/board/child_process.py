"""Child processes of this Python: they import from where this one does, and need not have root's rights."""

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
GPU_GROUPS = ("video", "render")  # a Jetson's
WITHIN_S = 60.0  # importing torch takes half of it on a Zero 2 W


def fresh_python(program: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command that runs `program`.

    `python -c` and `-m` put the current directory first on `sys.path`, so that in /tmp root would import whatever
    json.py somebody left there. -P is not known before 3.11, and taking the directory off `sys.path` in the program is
    too late in 3.13, which imports linecache before it. -I leaves it out in every version, with PYTHONPATH and the
    user's packages; hence this process's own `sys.path`.

    Args:
        program: its text; `sys` is imported already.
        arguments: what `sys.argv` gets.
        options: of Python.
    """
    path = [place for place in sys.path if Path(place).is_absolute()]
    return [sys.executable, "-I", *options, "-c", f"import sys\nsys.path[:] = {path!a}\n{program}", *arguments]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program of its own process went."""

    code: int
    output: str
    last_line: str  # of its complaint, or how it was ended


def run_apart(program: str, *arguments: str, within_s: float = WITHIN_S, code: Path | None = None) -> Ran:
    """Run Python in a process of its own: an illegal instruction, or a driver that blocks, ends that process alone.

    Args:
        program: its text.
        arguments: what `sys.argv` gets.
        within_s: how long it may take.
        code: what it loads and runs, such as a bundle. Where another user may change that, root runs it as that user.
    """
    command = fresh_python(program, *arguments, options=("-W", "ignore"))
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",  # what a driver writes may be no text
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
    said = (ran.stderr.strip().splitlines() or [""])[-1]
    if ran.returncode < 0:
        ended = f"it was ended by signal {-ran.returncode} ({signal.strsignal(-ran.returncode)})"
        if ran.returncode == -signal.SIGKILL:
            ended += ", as the system does where memory runs out"
        said = f"{ended}: {said}" if said else ended
    return Ran(ran.returncode, ran.stdout.strip(), said or f"exit code {ran.returncode}")


def _as_owner_of(code: Path | None) -> dict[str, Any]:
    """What makes `subprocess.run` take the rights of whoever may change `code`, where that is not root alone."""
    if code is None or os.geteuid() != 0 or Path("/").stat().st_uid != 0:  # or root in a user namespace alone
        return {}
    # Both ways: whoever owns a directory on either may put something else in the place of what follows.
    for path in (code.absolute(), Path(os.path.realpath(code))):
        for part in (*reversed(path.parents), path):
            try:
                owner = part.lstat()
            except OSError:
                break  # it is missing, which the program says
            if owner.st_uid != 0:
                groups = [group.gr_gid for group in grp.getgrall() if group.gr_name in GPU_GROUPS]
                # In a session of its own it cannot type into root's terminal.
                return {
                    "user": owner.st_uid,
                    "group": owner.st_gid,
                    "extra_groups": groups,
                    "start_new_session": True,
                    "stdin": subprocess.DEVNULL,
                }
    return {}
