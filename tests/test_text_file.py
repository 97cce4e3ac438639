"""Tests that text means the same whichever editor saved it, in every file that people write."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge import text_file
from edge.delivery.credentials import _key_password, read_password
from edge.errors import EdgeClassifierError
from edge.interfaces.web.token import read_token
from edge.photos.folders import read_labels
from edge.settings.schema import MqttSettings
from edge.settings.toml_file import load_settings
from edge.text_file import NotTextError, read_text
from edge.workshop.export.weights.class_names import class_names

TOKEN = "fünfzehn Zeichen und mehr"

# How a file is read, its text, and what that means.
READERS: dict[str, tuple[Callable[[Path], object], str, object]] = {
    "config": (
        lambda file: load_settings(file, {}).camera.source,
        '# Die Kamera über der Tür\n[camera]\nsource = "file:/tür.mp4"\n',
        "file:/tür.mp4",
    ),
    "token": (lambda file: read_token(str(file)), f"{TOKEN}\n", TOKEN),
    "password": (lambda file: read_password(str(file)), "schlüssel \n", "schlüssel "),
    "passphrase": (
        lambda file: _key_password(
            MqttSettings(url="mqtts://b", cert_file="c", key_file="k", key_password_file=str(file))
        ),
        "schlüssel\n",
        "schlüssel",
    ),
    "class names": (lambda file: class_names(2, file), "Tür\nTor\n", ("Tür", "Tor")),
    "labelled photos": (
        lambda file: [(photo.file.name, photo.index) for photo in read_labels(file, 3)],
        "file,index\ntür.jpg,1\ntor.jpg,2\n",
        [("tür.jpg", 1), ("tor.jpg", 2)],
    ),
}
WAYS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "a mark, as Notepad writes it": lambda text: text.encode("utf-8-sig"),
    "UTF-16, as PowerShell writes it": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "UTF-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "Windows' line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "a mark and Windows' line ends": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "old Macs' line ends": lambda text: text.replace("\n", "\r").encode(),
    "no last line end": lambda text: text.rstrip("\n").encode(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", READERS)
def test_text_means_the_same_however_it_was_saved(tmp_path: Path, kind: str, way: str) -> None:
    read, text, meant = READERS[kind]
    file = tmp_path / "file"
    file.write_bytes(WAYS[way](text))
    file.chmod(0o600)
    assert read(file) == meant


@pytest.mark.parametrize(
    ("encode", "sentence"),
    [
        (lambda text: text.encode("latin-1"), "is not UTF-8 text (line "),
        (lambda text: text.encode("utf-16-le"), ""),  # without a mark: not UTF-8, or UTF-8 with zeros
        (lambda text: text.encode("utf-16") + b"\x00", "is not UTF-16 text (line "),
        (lambda text: text.encode() + b"\x00\x00\x00\x00", "has a zero byte in line "),  # after a power cut
        (lambda text: b"\x80\x02\xff" * 1000, "is not UTF-8 text (line 1, byte 0)"),
        (lambda text: b"\xff\xfe", "is not UTF-8 text (line 1, byte 0)"),
    ],
    ids=["latin-1", "UTF-16 without a mark", "torn UTF-16", "zeros", "a pickle", "a mark alone"],
)
@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_text_is_one_sentence_that_names_the_file(
    tmp_path: Path, kind: str, encode: Callable[[str], bytes], sentence: str
) -> None:
    read, text, _ = READERS[kind]
    file = tmp_path / "file"
    file.write_bytes(encode(text))
    with pytest.raises(EdgeClassifierError) as caught:
        read(file)
    said = str(caught.value)
    assert str(file) in said
    assert sentence in said
    assert "save it as UTF-8" in said
    assert "\n" not in said


def test_a_pipe_is_read_and_a_file_that_is_no_text_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = r'exec "$0" -m edge config check --config <(printf "\xef\xbb\xbf[log]\nlevel = \"debug\"\n")'
    done = subprocess.run(["bash", "-c", script, sys.executable], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.setattr(text_file, "MAX_BYTES", 100)
    with pytest.raises(NotTextError, match="is larger than"):
        read_text(Path("/dev/zero"))


def test_a_config_that_stops_the_parser_itself_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for text in ("a = " + "[" * 100_000, "a = " + "9" * 10_000):
        file.write_text(text)
        with pytest.raises(EdgeClassifierError, match="is not TOML"):
            load_settings(file, {})
