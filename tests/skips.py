"""`--may-skip FILE` fails each test that skips and is not listed in FILE.

A test that is skipped because data or a program is missing would otherwise look like a success.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pluggy import Result


def may_skip(file: Path) -> dict[str, str]:
    """Test or test file → the reason why it may skip; the lines are `path[::test]  # reason`."""
    lines = [line.partition("#") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {name.strip(): reason.strip() for name, _, reason in lines if name}


class NoOtherSkips:
    """Turns a skip that is not listed into a failure of the test or of its collection."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._listed = may_skip(file)

    def _is_listed(self, test: str) -> bool:
        """Whether the test is listed, with or without its parameters, or through its file."""
        return not {test, test.partition("[")[0], test.partition("::")[0]}.isdisjoint(self._listed)

    def _judged(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not self._is_listed(report.nodeid):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            report.outcome = "failed"
            report.longrepr = f"{reason}\n{self._file} does not name this skip: something is missing here."

    # `hookwrapper`, because the pluggy 1.0 of Debian bookworm does not know `wrapper` yet.
    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Result[pytest.TestReport], None]:
        self._judged((yield).get_result())

    @pytest.hookimpl(hookwrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, Result[pytest.CollectReport], None]:
        self._judged((yield).get_result())
