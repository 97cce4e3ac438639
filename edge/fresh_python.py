"""Another process of this Python, which imports from where this one does and never from the current directory."""

from __future__ import annotations

import sys
from pathlib import Path

EDGE = "from edge.cli import main; sys.exit(main())"  # the program `edge-classifier`


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
