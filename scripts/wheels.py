"""Says which packages from PyPI an install needs beside what its machine has, and fetches their wheels for any machine.

    wheels.py wanted DIR ...                    writes requirements.txt and constraints.txt into DIR
    wheels.py download DIR ... [-- PIP OPTION…] the same, and the wheels into DIR/wheels

Run by a Python that has pip, of whatever version: it brings the parser of requirements along.
"""

from __future__ import annotations

import argparse
import configparser
import json
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pip._vendor.packaging import markers
from pip._vendor.packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[1]
# What glibc each machine's wheels may ask for: Debian bookworm, Ubuntu 22.04 and all that came later have more.
GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")


def environment(machine: str, python: str) -> dict[str, str]:
    """What environment markers see on the machine that it is for."""
    return {
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "extra": "",
    }


def name_of(requirement: str) -> str:
    """The normalised name of a package."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0]).lower()


def for_machine(lines: list[str], seen: dict[str, str], leave_out: Callable[[str], bool]) -> list[str]:
    """The requirements that hold there, without their markers, but for those whose name is to be left out."""
    kept = []
    for line in lines:
        text = line.partition("#")[0].strip()
        if not text or leave_out(name_of(text)):
            continue
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(seen):
            kept.append(f"{requirement.name}{requirement.specifier}")
    return kept


def write_wanted(directory: Path, seen: dict[str, str], machine_has: Callable[[str], bool], pins: list[str]) -> None:
    """What to install, and what it is held to: constraints.txt, and `pins` in place of its lines."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    project = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    build: list[str] = json.loads(re.findall(r"^requires = (\[.*\])$", project, re.MULTILINE)[0])
    lines = [
        *setup["options"]["install_requires"].splitlines(),
        *setup["options.extras_require"]["export"].splitlines(),
        *build,
    ]
    constraints = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    directory.mkdir(parents=True, exist_ok=True)
    requirements = for_machine(lines, seen, machine_has)
    held = [*for_machine(constraints, seen, {name_of(pin) for pin in pins}.__contains__), *pins]
    (directory / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    (directory / "constraints.txt").write_text("\n".join(held) + "\n", encoding="utf-8")


def download(directory: Path, seen: dict[str, str], options: list[str]) -> int:
    """Fetch wheels alone: whoever is without internet is without a compiler too."""
    from pip._internal.cli.main import main as pip

    machine, python = seen["platform_machine"], seen["python_version"]
    arguments = ["download", "--dest", str(directory / "wheels"), "--only-binary=:all:", "--implementation", "cp"]
    arguments += ["--requirement", str(directory / "requirements.txt")]
    arguments += ["--constraint", str(directory / "constraints.txt"), "--python-version", python]
    for glibc in GLIBC:
        arguments += ["--platform", f"{glibc}_{machine}"]
    # pip takes --platform for the wheels' names, but asks the packages' markers about the machine that it runs on:
    # torch would bring a PC's CUDA along to a Pi.
    here = markers.default_environment

    def there() -> Any:
        return {**here(), **{key: value for key, value in seen.items() if key != "extra"}}

    markers.default_environment = there
    return pip(arguments + options)


def main() -> int:
    """Parse, write, and fetch where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("wanted", "download"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--machine", default=platform.machine())
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="packages that the machine has itself")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="in place of --without: what it has not")
    parser.add_argument("--pin", nargs="*", default=[], metavar="REQUIREMENT", help="in place of a constraint")
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    arguments = parser.parse_args(own)
    seen = environment(arguments.machine, arguments.python)
    without = {name_of(name) for name in arguments.without}
    only = None if arguments.only is None else {name_of(name) for name in arguments.only}

    def machine_has(name: str) -> bool:
        return name in without or (only is not None and name not in only)

    write_wanted(arguments.directory, seen, machine_has, arguments.pin)
    return download(arguments.directory, seen, options) if arguments.action == "download" else 0


if __name__ == "__main__":
    sys.exit(main())
