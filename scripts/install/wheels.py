"""Selects the packages from PyPI that an install needs, without those that its machine has, and fetches their wheels.

    wheels.py wanted DIR ...                    writes DIR/requirements.txt: a version and sha256s for each package
    wheels.py download DIR ... [-- PIP OPTION…] the same, and the wheels into DIR/wheels

The list is complete, so it is installed with `--no-deps --require-hashes`. With --cpu-index torch goes to DIR/cpu.txt
instead: that index has torch without CUDA, and publishes its own hashes, which pip checks. Needs a Python with pip,
whose parser of requirements it uses. Exits with 0 when it is done, 2 for a wrong option, otherwise with pip's code.
"""

from __future__ import annotations

import argparse
import configparser
import json
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from pip._vendor.packaging.markers import default_environment
from pip._vendor.packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[2]
# The glibc that wheels may require: Debian bookworm, Ubuntu 22.04 and later systems have a newer one.
GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
TORCH = ("torch", "torchvision")
CUDA = re.compile(r"(nvidia|cuda)-.*|triton")  # dependencies of PyPI's torch on a PC


@dataclass(frozen=True)
class Pin:
    """A package in constraints.txt."""

    name: str
    version: str
    hashes: tuple[str, ...]
    wanted_by: frozenset[str]

    def __str__(self) -> str:
        return " \\\n    ".join([f"{self.name}=={self.version}", *(f"--hash={digest}" for digest in self.hashes)])


def environment(machine: str, python: str) -> dict[str, str]:
    """The values of environment markers on the target machine."""
    there = {"platform_machine": machine, "python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    return {**default_environment(), **there, "sys_platform": "linux", "platform_system": "Linux"}


def name_of(name: str) -> str:
    """A package's name in the normalised form of constraints.txt."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str, seen: dict[str, str]) -> dict[str, Pin]:
    """The packages of a file that `uv pip compile` wrote that are for the target machine: name → pin."""
    found = {}
    for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        requirement = Requirement(block.partition("\\")[0].strip())
        if requirement.marker is None or requirement.marker.evaluate(seen):
            (version,) = (specifier.version for specifier in requirement.specifier)
            hashes = tuple(re.findall(r"--hash=(\S+)", block))
            wanted_by = frozenset(re.findall(r"^ +# (?:via |  )([a-z0-9][\w.-]*)", block, re.MULTILINE))
            found[requirement.name] = Pin(requirement.name, version, hashes, wanted_by)
    return found


def read_setup() -> configparser.ConfigParser:
    """The package's setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    return setup


def roots(extras: list[str], seen: dict[str, str]) -> set[str]:
    """The names of what setup.cfg requires, and of what builds the package."""
    setup = read_setup()
    project = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    build: list[str] = json.loads(re.findall(r"^requires = (\[.*\])$", project, re.MULTILINE)[0])
    lines = [*setup["options"]["install_requires"].splitlines(), *build]
    for extra in extras:
        lines += setup["options.extras_require"][extra].splitlines()
    requirements = [Requirement(line) for line in lines if line.strip()]
    return {name_of(r.name) for r in requirements if r.marker is None or r.marker.evaluate(seen)}


def closure(pinned: dict[str, Pin], names: set[str], without: set[str]) -> dict[str, Pin]:
    """The packages of those names and all their dependencies, except `without`, which the machine has."""
    chosen: dict[str, Pin] = {}
    before = -1
    while len(chosen) > before:
        before = len(chosen)
        for pin in pinned.values():
            if pin.name not in without and (pin.name in names or pin.wanted_by & chosen.keys()):
                chosen[pin.name] = pin
    return chosen


def write_wanted(directory: Path, wanted: dict[str, Pin], *, from_cpu_index: bool) -> None:
    """Write DIR/requirements.txt, and DIR/cpu.txt for what comes from PyTorch's own index."""
    directory.mkdir(parents=True, exist_ok=True)
    cpu = directory / "cpu.txt"
    cpu.unlink(missing_ok=True)
    if from_cpu_index:
        theirs = "".join(f"{name}=={wanted[name].version}\n" for name in TORCH if name in wanted)
        cpu.write_text(theirs, encoding="utf-8")
        wanted = {name: pin for name, pin in wanted.items() if name not in TORCH and not CUDA.fullmatch(name)}
    text = "".join(f"{pin}\n" for _, pin in sorted(wanted.items()))
    (directory / "requirements.txt").write_text(text, encoding="utf-8")


def download(directory: Path, machine: str, python: str, cpu_index: str, options: list[str]) -> int:
    """Fetch wheels only, because a machine without internet may have no compiler; returns pip's exit code."""
    from pip._internal.cli.main import main as pip

    arguments = ["download", "--dest", str(directory / "wheels"), "--only-binary=:all:", "--implementation", "cp"]
    arguments += ["--no-deps", "--python-version", python, *options]
    for glibc in GLIBC:
        arguments += ["--platform", f"{glibc}_{machine}"]
    if cpu_index and (code := pip([*arguments, "--index-url", cpu_index, "--requirement", str(directory / "cpu.txt")])):
        return code
    return pip([*arguments, "--require-hashes", "--requirement", str(directory / "requirements.txt")])


def python_version(text: str) -> str:
    """Check the value of `--python`."""
    if not re.fullmatch(r"3\.\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no version of Python; give it as 3.11.")
    return text


def main() -> int:
    """Parse the options, write the lists, and for `download` fetch the wheels; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("wanted", "download"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--machine", choices=("aarch64", "x86_64"), default=platform.machine())
    parser.add_argument("--python", type=python_version, default=f"{sys.version_info.major}.{sys.version_info.minor}")
    extras = list(read_setup()["options.extras_require"])
    instead = sorted(file.name for file in CHECKOUT.glob("constraints-*.txt"))
    parser.add_argument("--extra", nargs="*", choices=extras, default=["export"], help="of setup.cfg (default: export)")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="packages that the machine has itself")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these and what they need, in place of all")
    parser.add_argument("--instead", nargs="*", choices=instead, default=[], help="pins that replace their namesakes")
    parser.add_argument("--cpu-index", default="", metavar="URL", help="PyTorch's own, for torch without CUDA")
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    arguments = parser.parse_args(own)
    seen = environment(arguments.machine, arguments.python)
    pinned: dict[str, Pin] = {}
    for file in ["constraints.txt", *arguments.instead]:
        pinned |= pins((CHECKOUT / file).read_text(encoding="utf-8"), seen)
    names = roots(arguments.extra, seen) if arguments.only is None else {name_of(name) for name in arguments.only}
    if unknown := sorted(names - pinned.keys()):
        parser.error(f"constraints.txt has no {', '.join(unknown)} for {arguments.machine}; see scripts/pin.")
    wanted = closure(pinned, names, {name_of(name) for name in arguments.without})
    write_wanted(arguments.directory, wanted, from_cpu_index=bool(arguments.cpu_index))
    if arguments.action == "wanted":
        return 0
    return download(arguments.directory, arguments.machine, arguments.python, arguments.cpu_index, options)


if __name__ == "__main__":
    sys.exit(main())
