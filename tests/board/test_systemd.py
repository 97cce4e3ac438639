"""Tests sd_notify messages on a real datagram socket, and that a missing or broken socket causes no failure."""

import logging
import os
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.board.systemd import Notifier, credential, set_up_logging


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def heard(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().split("\n")


def test_the_messages_to_systemd_from_the_start_to_the_stop(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.ready("camera online")
    assert heard(systemd) == ["READY=1", "STATUS=camera online"]
    notifier.status("camera online")  # unchanged: not sent
    notifier.status("camera waiting")
    assert heard(systemd) == ["STATUS=camera waiting"]
    notifier.watchdog()
    assert heard(systemd) == ["WATCHDOG=1"]
    notifier.reloading(12)
    assert heard(systemd) == ["RELOADING=1", "MONOTONIC_USEC=12"]
    notifier.stopping("bye")
    assert heard(systemd) == ["STOPPING=1", "STATUS=bye"]
    notifier.close()


def test_an_abstract_socket_works_as_well() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0edge-test-{os.getpid()}")
        listener.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": f"@edge-test-{os.getpid()}"})
        notifier.watchdog()
        assert heard(listener) == ["WATCHDOG=1"]
        notifier.close()


def test_without_systemd_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        notifier = Notifier(environment)
        notifier.ready("fine")
        notifier.close()


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_three_times_an_interval_and_only_by_us(
    environment: dict[str, str], interval: float | None
) -> None:
    assert Notifier(environment).watchdog_interval_s == interval


def test_a_credential_is_a_file_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "mqtt-password").write_text("secret")
    assert credential("mqtt-password", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == tmp_path / "mqtt-password"
    assert credential("other", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) is None
    assert credential("mqtt-password", {}, source=tmp_path / "nowhere") is None


def test_outside_the_service_a_credential_is_what_systemd_would_load(tmp_path: Path) -> None:
    (tmp_path / "mqtt-password").write_text("secret")
    assert credential("mqtt-password", {}, source=tmp_path) == tmp_path / "mqtt-password"
    assert credential("mqtt-password", {"CREDENTIALS_DIRECTORY": str(tmp_path / "empty")}, source=tmp_path) is None


def test_lines_without_a_journal_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", {})
    logging.getLogger("edge.test").info("The camera is online")
    logging.getLogger("edge.test").debug("not shown")
    assert capsys.readouterr().err == "INFO The camera is online\n"


class JournalHandler(logging.Handler):
    """Stands in for python3-systemd's handler, which PyPI has only as source."""

    def __init__(self, **fields: str) -> None:
        super().__init__()
        self.fields, self.records = fields, list[logging.LogRecord]()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_pythons_journal_module_gets_the_records_where_the_output_is_the_journal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("systemd.journal")
    module.JournalHandler = JournalHandler  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemd.journal", module)
    journal = os.fstat(2)
    set_up_logging("info", {"JOURNAL_STREAM": f"{journal.st_dev}:{journal.st_ino}"})
    logging.getLogger("edge.test").info("The camera is online")
    (handler,) = logging.getLogger("edge").handlers
    assert isinstance(handler, JournalHandler)
    assert handler.fields == {"SYSLOG_IDENTIFIER": "edge-classifier"}
    assert [(record.name, record.getMessage()) for record in handler.records] == [("edge.test", "The camera is online")]
    assert capfd.readouterr().err == "", "a line that is sent twice"


def test_without_pythons_journal_module_every_line_has_its_priority(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "systemd", None)
    journal = os.fstat(2)
    set_up_logging("debug", {"JOURNAL_STREAM": f"{journal.st_dev}:{journal.st_ino}"})
    logger = logging.getLogger("edge.test")
    logger.debug("frame by frame")
    logger.info("The camera is online")
    logger.warning("The broker is away")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("A fault")
    lines = capfd.readouterr().err.splitlines()
    assert lines[:4] == ["<7>frame by frame", "<6>The camera is online", "<4>The broker is away", "<3>A fault"]
    assert lines[-2:] == ["<3>ValueError: two", "<3>lines"]
    assert all(line.startswith("<3>") for line in lines[3:]), "a traceback is one fault, to its last line"


def test_where_the_output_is_not_the_journal_after_all_its_lines_are_plain(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", {"JOURNAL_STREAM": "1:1"})  # as in a terminal that a service of the desktop has opened
    logging.getLogger("edge.test").info("The camera is online")
    assert capfd.readouterr().err == "INFO The camera is online\n"


def test_a_text_of_others_does_not_become_a_line_with_a_priority(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "systemd", None)
    journal = os.fstat(2)
    set_up_logging("info", {"JOURNAL_STREAM": f"{journal.st_dev}:{journal.st_ino}"})
    text = "a\u2028ERROR b\x85ERROR c\rERROR d\x0bERROR e\x1cERROR f"
    logging.getLogger("edge.test").warning("%s", text)
    assert capfd.readouterr().err.count("<4>") == 1


FORGED = "\u2028ERROR forged \x85ERROR forged \x1b[31m \u2029 \x0b \x0c \x1c \r \nERROR forged"


@pytest.mark.parametrize("to_journal", [True, False])
def test_a_message_with_what_a_stranger_has_sent_is_one_line_and_colours_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, to_journal: bool
) -> None:
    monkeypatch.setitem(sys.modules, "systemd", None)
    journal = os.fstat(2)
    set_up_logging("info", {"JOURNAL_STREAM": f"{journal.st_dev}:{journal.st_ino}"} if to_journal else {})
    logging.getLogger("edge.test").warning("The broker refuses %s", FORGED)
    try:
        raise ValueError(FORGED.replace("\n", ""))
    except ValueError:
        logging.getLogger("edge.test").exception("A fault")
    output = capfd.readouterr().err
    lines = output.splitlines()
    assert lines == output.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert "\\u2028ERROR forged \\x85ERROR" in lines[0]
    assert [line for line in lines if line.removeprefix("<4>").removeprefix("<3>").startswith("ERROR forged")] == []


def test_pythons_journal_module_gets_such_a_message_as_one_line_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("systemd.journal")
    module.JournalHandler = JournalHandler  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemd.journal", module)
    journal = os.fstat(2)
    set_up_logging("info", {"JOURNAL_STREAM": f"{journal.st_dev}:{journal.st_ino}"})
    logging.getLogger("edge.test").warning("The broker refuses %s", FORGED)
    (handler,) = logging.getLogger("edge").handlers
    assert isinstance(handler, JournalHandler)
    assert handler.format(handler.records[0]).isprintable()
