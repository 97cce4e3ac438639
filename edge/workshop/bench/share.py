"""Makes a result that may be given to others: what matters for speed, and nothing that names a box or its user.

Every text that could hold a name is replaced by one of a fixed set, or removed. To share another field, look first
at what it can hold.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from edge.errors import ConfigError, StateError
from edge.workshop.bench.result import Latency, Made, Result

HIDDEN = "…"
# A path, a URL, a user at a host, a host with its port, an IP address, a hardware address.
# A path may have spaces: all from its first slash to its last one in the clause goes.
PATH_OR_ADDRESS = re.compile(
    r"\S*[/\\@](?:[^;:()]*/)?\S*|\S+:\d\S*|\b\d+(?:\.\d+){3}\b|\S*[0-9a-fA-F]*:[0-9a-fA-F]*:\S*"
)


def refuse_to_overwrite(file: Path) -> None:
    """Check before the measurement that the file can be written at its end.

    Raises:
        ConfigError: there is such a file already, no such directory, or no file can be made there.
    """
    if os.path.lexists(file):
        raise ConfigError(f"{file} exists already; name another file, or remove it first.")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"There is no directory {file.absolute().parent}; make it, or name another place.")
    try:
        file.open("x").close()
        file.unlink()
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror}); name another place.") from error


def write_shared(result: Result, file: Path, names: Iterable[str]) -> None:
    """Write `shared(result)` as indented JSON, which `bench --compare` reads too.

    Args:
        result: of this machine.
        file: must not exist.
        names: of the box in its settings.

    Raises:
        StateError: the file cannot be written, or has come into being meanwhile.
    """
    text = shared(result, [*names, *own_names()]).model_dump_json(by_alias=True, indent=2, exclude={"comparison"})
    try:
        with file.open("x", encoding="utf-8") as opened, ExitStack() as unfinished:
            unfinished.callback(file.unlink)
            opened.write(text + "\n")
            opened.flush()
            unfinished.pop_all()
    except OSError as error:
        raise StateError(f"{file} cannot be written ({error.strerror}); name another place.") from error


def own_names() -> list[str]:
    """The names of this machine and of its user."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = ""
    host = socket.gethostname()
    return [host, host.partition(".")[0], user, os.environ.get("SUDO_USER", "")]


def shared(result: Result, names: Iterable[str]) -> Result:
    """The result without its free texts.

    Args:
        result: with everything that was measured.
        names: words that are removed from texts which others wrote: the kernel's release, and reasons.
    """
    hidden = [name for name in names if name]
    kernel = without(result.machine.kernel, hidden)
    frames = result.captured.rpartition(" gave ")[2] if result.captured.endswith(" a second") else ""
    return result.model_copy(
        update={
            "time": result.time[:10],  # the day
            "photos": "the golden photo" if result.photos == "the golden photo" else "the user's own",
            "captured": f"the camera gave {frames}" if frames else "read and decoded anew for each frame",
            "no_upload": "the page cannot be served" if result.no_upload else "",
            "machine": result.machine.model_copy(update={"kernel": kernel}),
            "made": result.made and _anonymous(result.made, hidden),
            "stages": result.stages
            | {"capture": _described(result, "capture", "grabbed to RGB")}
            | {"publish": _described(result, "publish", _destination(result.stages["publish"].what))},
            "installed": tuple(
                one.model_copy(update={"reason": without(one.reason, hidden)}) for one in result.installed
            ),
            "comparison": None,
        }
    )


def without(text: str, names: Iterable[str]) -> str:
    """The text with HIDDEN in place of paths, addresses and the given words."""
    text = PATH_OR_ADDRESS.sub(HIDDEN, text)
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", HIDDEN, text, flags=re.IGNORECASE)
    return text


def _anonymous(made: Made, hidden: list[str]) -> Made:
    candidates = tuple(one.model_copy(update={"reason": without(one.reason, hidden)}) for one in made.candidates)
    return made.model_copy(update={"library": without(made.library, hidden), "candidates": candidates})


def _described(result: Result, stage: str, what: str) -> Latency:
    return result.stages[stage].model_copy(update={"what": what})


def _destination(what: str) -> str:
    return "to the broker's PUBACK" if what.startswith("to the PUBACK") else "to the outbox, without a broker"
