"""Tests how the kernels' library is built and found, and what is said where it cannot be."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge.commands.doctor_checks import kernels
from edge.errors import BundleError
from edge.kernels import build as module
from edge.kernels import library
from edge.kernels.build import build
from tests.installer import program
from tests.kernels.compiler import need_compiler


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ARM64 machine whose package has no library yet, and may be written."""
    need_compiler()
    home = tmp_path / "kernels"
    home.mkdir()
    monkeypatch.setattr(library, "DIRECTORY", home)
    monkeypatch.setattr(library.platform, "machine", lambda: "aarch64")
    monkeypatch.delenv("CC", raising=False)
    return home


def test_the_systems_compiler_builds_it_and_nothing_else_is_left(place: Path) -> None:
    (place / "libedge_kernels-00000000.so").write_bytes(b"of other sources")
    file = build()
    assert list(place.iterdir()) == [file]
    assert library.unavailable() == ""
    assert library.open_library().instructions in ("plain C", "ARM64", "ARM64 with dot product")
    assert (kernels.kernels().severity, "built" in kernels.kernels().sentence) == ("ok", True)


def test_a_library_of_other_sources_is_never_used(place: Path) -> None:
    file = build()
    file.rename(place / "libedge_kernels-00000000.so")
    assert "not built here" in library.unavailable()


def test_without_a_compiler_a_sentence_says_what_brings_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(place))
    assert module.main() == 69
    line = capsys.readouterr().out
    assert line.startswith("There is no C compiler to build the kernels with (cc: No such file or directory)")
    assert f"sudo apt-get install gcc libc6-dev, and then {sys.executable} -m edge.kernels.build." in line
    assert line.endswith("Until then torch's own kernels run the model.\n")
    assert list(place.iterdir()) == []


def test_the_compilers_first_error_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = "trunk.c:1:1: warning: odd\\ntrunk.c:3:9: error: broken here\\ntrunk.c:4:1: error: and there\\n"
    monkeypatch.setenv("CC", str(program(place.parent / "mycc", f"#!/bin/sh\nprintf '{errors}' >&2; exit 1\n")))
    with pytest.raises(
        library.KernelsError, match=r"mycc cannot compile the kernels: trunk\.c:3:9: error: broken here$"
    ):
        build()
    assert list(place.iterdir()) == []


def test_a_compiler_for_another_machine_is_noticed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho not for this machine >"$2"\n'
    monkeypatch.setenv("CC", f"{program(place.parent / 'mycc', script)} --option")
    with pytest.raises(library.KernelsError, match="mycc does not make libraries for this machine"):
        build()
    assert list(place.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(place: Path) -> None:
    place.rmdir()
    with pytest.raises(
        library.KernelsError, match=f"cannot be built into {re.escape(str(place))} .*; make it writable"
    ):
        build()


def test_a_bundle_that_needs_it_gets_a_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not built, of another machine, of another version: each is a BundleError that says what to do."""
    command = f"{sys.executable} -m edge.kernels.build"
    with pytest.raises(BundleError, match=f"not built here; run: .*{re.escape(command)}"):
        library.open_library()
    file = place / library.file_name()
    file.write_bytes(b"\x7fELF of another machine")
    with pytest.raises(BundleError, match=f"{re.escape(str(file))} cannot be loaded .*another machine"):
        library.open_library()
    assert kernels.kernels().sentence.startswith("not in use. ")
    file.unlink()
    build()
    monkeypatch.setattr(library, "ABI_VERSION", 99)
    with pytest.raises(BundleError, match=f"has version 1 of .* needs 99; build it again: .*{re.escape(command)}"):
        library.open_library()
    monkeypatch.setattr(library, "DIRECTORY", place.parent)
    monkeypatch.setattr(library.platform, "machine", lambda: "x86_64")
    with pytest.raises(BundleError, match="are for ARM64, and this machine is x86_64; export the model again"):
        library.open_library()


def test_only_arm64_builds_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    assert module.main() == 0
    built = list(place.iterdir())
    assert len(built) == 1
    assert module.main() == 0  # it is there
    assert re.fullmatch(r"(The kernels are built: [\w ]+\.\n){2}", capsys.readouterr().out)
    built[0].unlink()
    monkeypatch.setattr(library.platform, "machine", lambda: "x86_64")
    assert module.main() == 0
    assert capsys.readouterr().out == "The kernels are for ARM64; x86_64 needs none.\n"
    assert list(place.iterdir()) == []


def test_reading_of_the_kernels_needs_no_torch() -> None:
    """A bundle is checked, and the library built, before torch is there."""
    program = (
        "import edge.kernels.build, edge.kernels.library, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    path = os.pathsep.join(place for place in sys.path if place)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False False\n"
