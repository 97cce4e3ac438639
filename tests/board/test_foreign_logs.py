"""Tests that what libraries log comes as lines of the daemon's log, and that repeats are counted, not logged."""

import asyncio
import logging
import subprocess
import sys

import pytest

from edge.board import foreign_logs
from edge.board.systemd import set_up_logging
from edge.repeating_fault import RepeatingFault


def test_a_thousand_lines_of_a_library_are_one_and_its_count(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(RepeatingFault.__init__, "__defaults__", (logging.WARNING, lambda: now[0]))
    set_up_logging("info", {})
    for _ in range(1000):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
        now[0] += 0.002
    now[0] = 100.0
    foreign_logs.settle()
    assert capfd.readouterr().err.splitlines() == [
        "WARNING uvicorn: Invalid HTTP request received.",
        "WARNING uvicorn: these messages have stopped (1000 times in 2 s)",
    ]


def test_every_library_has_its_own_lines_and_what_it_only_tells_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging("debug", {})
    for name in ("uvicorn.error", "python_multipart.multipart", "paho", "asyncio"):
        logging.getLogger(name).info("not a fault")
        logging.getLogger(name).warning("something odd at %d", 7)
    libraries = ("uvicorn", "python_multipart", "paho", "asyncio")
    assert capfd.readouterr().err.splitlines() == [f"WARNING {name}: something odd at 7" for name in libraries]


def test_a_message_with_changing_parts_fills_no_log_and_cannot_forge_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", {})
    for number in range(1000):
        sent = f"\x1b[2J{number}\r{'x' * 10_000}\nERROR: forged"
        logging.getLogger("python_multipart").warning("Did not find %s", sent)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("WARNING python_multipart: Did not find  [2J") for line in lines)
    assert all(len(line) < 400 for line in lines)


def test_an_error_that_nobody_caught_has_its_traceback_once(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", {})

    def fails() -> None:
        raise ZeroDivisionError("a fault of ours")

    async def main() -> None:
        for _ in range(10):
            asyncio.get_running_loop().call_soon(fails)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    text = capfd.readouterr().err
    assert text.count("ERROR asyncio: Exception in callback") == 1
    assert text.count("Traceback") == 1
    assert text.count("in fails") == 1


def test_warnings_and_exceptions_that_end_threads_are_lines_of_the_log_and_counted() -> None:
    program = """
import threading, warnings
from edge.board.systemd import set_up_logging

class Closing:
    def __del__(self):
        raise OSError("it cannot be closed")

def fails():
    warnings.warn("an old name", stacklevel=1)
    raise ZeroDivisionError("a fault of ours")

set_up_logging("info", {})
warnings.simplefilter("always")
for _ in range(100):
    thread = threading.Thread(target=fails, name="web")
    thread.start()
    thread.join()
    Closing()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    lines = [line for line in done.stderr.splitlines() if not line.startswith((" ", "Traceback", "ZeroDiv", "OSError"))]
    assert lines[:2] == [
        "WARNING python: <string>:10: UserWarning: an old name",
        "ERROR python: The thread web has ended with an exception: ZeroDivisionError: a fault of ours",
    ]
    assert lines[2].startswith("ERROR python: Exception ignored")
    assert "OSError: it cannot be closed" in lines[2]
    assert len(lines) == 3
    assert done.stderr.count("Traceback") == 2
