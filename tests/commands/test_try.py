"""Tests that `try` shows what it receives from its own broker, in 80 columns, and leaves nothing behind."""

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from edge.cli import main
from edge.commands.try_ import answers
from edge.commands.try_broker import LOOPBACK, find_mosquitto, running, running_broker
from edge.commands.try_screen import BAR, bar, event_lines
from edge.errors import BrokerError, CameraError, StateError
from edge.events import Event, Label, event_ids
from tests.delivery.driver import make_event

LONG = "Staffordshire bullterrier, Staffordshire bull terrier"


def an_event(label: str = "cup", *, best: str = "cup", confidence: float = 92.3) -> Event:
    top = (Label(best, confidence, 968), Label(LONG, 4.1, 179), Label("espresso", 0.0, 967))
    return make_event(event_ids("porch", "5f1c2e7a", 1), label=label, top=top)


@pytest.mark.parametrize("best", ["cup", LONG])
@pytest.mark.parametrize("confidence", [100.0, 19.9, 0.0])
def test_an_event_fits_80_columns(best: str, confidence: float) -> None:
    lines = event_lines(an_event(best, best=best, confidence=confidence), colour=False, unicode=True)
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)


def test_an_event_shows_bar_confidence_label_and_the_time_it_took() -> None:
    first, *_ = event_lines(an_event(), colour=False, unicode=False)
    assert first.split()[1:] == ["#" * 22, "92.3", "%", "cup", "46.1", "ms"]


def test_an_unknown_is_shown_with_what_it_might_be() -> None:
    first, *_ = event_lines(an_event("unknown", confidence=12.0), colour=False, unicode=True)
    assert "unknown (cup?)" in first


@pytest.mark.parametrize(("percent", "filled"), [(0.0, ""), (100.0, "█" * BAR), (50.0, "█" * 12), (1.0, "▎")])
def test_a_bar_is_as_long_as_its_percentage(percent: float, filled: str) -> None:
    assert bar(percent, unicode=True) == filled.ljust(BAR)


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) != 0


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_mosquitto_listens_while_it_is_needed_and_is_gone_afterwards(tmp_path: Path) -> None:
    with running_broker(tmp_path, find_mosquitto()) as broker:
        assert (broker.name, broker.version) == ("mosquitto", 5)
        assert not refuses(broker.port)
    assert refuses(broker.port)


def test_amqtt_takes_its_place_where_mosquitto_is_not_installed(tmp_path: Path) -> None:
    pytest.importorskip("amqtt", reason="amqtt is not installed")
    with running_broker(tmp_path, mosquitto=None) as broker:
        assert (broker.name, broker.version) == ("amqtt", "3.1.1")
        assert not refuses(broker.port)
    assert refuses(broker.port)


def test_a_broker_that_cannot_start_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"did not start.*broker\.log"), running_broker(tmp_path, mosquitto="false"):
        pass


def test_a_program_that_ignores_the_signal_is_ended_all_the_same(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    log = tmp_path / "log"
    with running([sys.executable, "-c", deaf], log, stop_within_s=0.2) as process:
        while not log.read_bytes():
            assert process.poll() is None
    assert process.returncode == -9


def test_the_page_is_announced_only_once_it_answers() -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:  # as a page that is still importing what it needs
        assert not answers(f"{LOOPBACK}:{silent.getsockname()[1]}")
        port = silent.getsockname()[1]
    assert not answers(f"{LOOPBACK}:{port}")  # nothing listens

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer((LOOPBACK, 0), Page) as page:
        threading.Thread(target=page.handle_request, daemon=True).start()
        assert answers(f"{LOOPBACK}:{page.server_port}")


@pytest.mark.parametrize("made", [False, True])
def test_a_state_directory_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], made: bool
) -> None:
    place = "/proc/nowhere"
    if made:
        place = str(tmp_path / "state")
        (tmp_path / "state" / "try" / "try.toml").mkdir(parents=True)  # not even root can write a file there
    monkeypatch.setenv("STATE_DIRECTORY", place)
    config = tmp_path / "config.toml"
    config.write_text(f'[model]\nbundle = "{tmp_path}"\n', encoding="utf-8")
    assert main(["try", "--config", str(config), "--source", "file:nothing.mp4"]) == StateError.exit_code
    assert f"{place}/try cannot be made or written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.mp4", None, "There is no file"),
        ("text.mp4", b"no video", "neither a video nor a photo"),
        ("cut.mp4", b"\0\0\0\x14ftypisom\0\0\2\0isom\0\0\0\0mdat", "its index (moov) is missing"),
        ("empty.mjpeg", b"", "holds no picture"),
    ],
)
def test_a_file_that_gives_no_picture_is_a_sentence(
    name: str,
    content: bytes | None,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The daemon would wait for it, since a disk may be mounted later."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    if content is not None:
        (tmp_path / name).write_bytes(content)
    config = tmp_path / "config.toml"
    config.write_text(f'[model]\nbundle = "{tmp_path}"\n', encoding="utf-8")
    assert main(["try", "--config", str(config), "--source", f"file:{tmp_path / name}"]) == CameraError.exit_code
    assert sentence in capsys.readouterr().err
