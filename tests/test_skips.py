"""Tests that an unexpected skip fails, and that the list of allowed skips is short and gives reasons."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon_process import CHECKOUT
from tests.skips import may_skip

LISTS = {"may_skip.txt": 20, "not_on_debian.txt": 48}  # the most lines of each
SUITE = """
import pytest

def test_that_passes(): pass

@pytest.mark.parametrize("part", [1, 2])
def test_that_skips(part): pytest.skip("no camera here")

@pytest.fixture
def missing(): pytest.skip("no broker here")

def test_without_its_fixture(missing): pass
"""


def run(folder: Path, listed: str) -> subprocess.CompletedProcess[str]:
    file = folder / "may_skip.txt"
    file.write_text(listed, encoding="utf-8")
    own = ["-p", "tests.conftest", "--rootdir", folder, "-c", "/dev/null"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *own, "-rA", "--continue-on-collection-errors", "--may-skip", file, folder],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    (tmp_path / "test_whole.py").write_text("import pytest\npytest.importorskip('no_such_module')\n", encoding="utf-8")
    return tmp_path


def test_a_skip_that_is_not_listed_fails_with_its_reason(folder: Path) -> None:
    done = run(folder, "test_suite.py::test_that_skips[1]  # a reason\n")
    assert done.returncode != 0
    assert "1 failed, 1 passed, 1 skipped, 2 errors" in done.stdout, done.stdout  # errors: a module and a fixture
    for text in ("no camera here", "no broker here", "no_such_module", "may_skip.txt does not name this skip"):
        assert text in done.stdout


def test_what_is_listed_may_skip_by_parameter_test_or_file(folder: Path) -> None:
    listed = "# the list\n\ntest_suite.py::test_that_skips  # a reason\ntest_whole.py  # another\n"
    done = run(folder, listed + "test_suite.py::test_without_its_fixture  # a third\n")
    assert done.returncode == 0, done.stdout
    assert "1 passed, 4 skipped" in done.stdout


@pytest.mark.parametrize("file", LISTS)
def test_the_list_names_tests_that_there_are_and_says_why(file: str) -> None:
    listed = may_skip(CHECKOUT / "tests" / file)
    assert 0 < len(listed) <= LISTS[file]
    for name, reason in listed.items():
        path, _, test = name.partition("::")
        if test or not (CHECKOUT / path).is_dir():
            text = (CHECKOUT / path).read_text(encoding="utf-8")
            assert f"def {test.partition('[')[0]}" in text, name
        assert len(reason.split()) >= 3, f"{name}: {reason}"


def test_every_suite_runs_at_each_push_or_each_night() -> None:
    runs = [(CHECKOUT / file).read_text(encoding="utf-8") for file in (".ci/run", "scripts/nightly")]
    suites = sorted((CHECKOUT / "scripts").glob("test*"))
    assert len(suites) >= 8
    assert [suite.name for suite in suites if not re.search(rf"\b{suite.name}\b(?!-)", "\n".join(runs))] == []
