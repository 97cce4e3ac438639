"""Prints at the end how many faults were survived, and which could not be tested here, with the reason."""

import pytest

HERE = "tests/faults/"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Each test checks the account of its events, so a test that passes has lost none without counting it."""
    count = {
        outcome: len([report for report in terminalreporter.getreports(outcome) if report.nodeid.startswith(HERE)])
        for outcome in ("passed", "failed", "error")
    }
    made = sum(count.values())
    if not made:
        return
    terminalreporter.section("faults")
    line = f"Faults survived {count['passed']} of {made}"
    terminalreporter.write_line(line + ("; events lost uncounted 0" if count["passed"] == made else ""))
    for report in terminalreporter.getreports("skipped"):
        if report.nodeid.startswith(HERE):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            terminalreporter.write_line(f"not tried here: {report.nodeid.removeprefix(HERE)}: {reason}")
