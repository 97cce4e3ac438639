"""Tests the settings: defaults, all errors at once with their lines, masked passwords, and what a reload may change."""

import contextlib
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.settings.defaults import state_directory
from edge.settings.live_change import live_change
from edge.settings.schema import Settings
from edge.settings.toml_file import load_settings, mask, to_toml


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def errors_of(path: Path, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environment or {})
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, ""), {}) == Settings()


def test_what_show_prints_reads_back_unchanged(tmp_path: Path) -> None:
    settings = load_settings(
        written(tmp_path, '[camera]\nsource = "file:/a \\"b\\"/ü.avi"\ncrop = [0.1, 0.2, 0.5, 0.5]\nloop = true\n'), {}
    )
    assert load_settings(written(tmp_path, to_toml(settings)), {}) == settings


def test_all_errors_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    text = errors_of(
        written(
            tmp_path,
            """
[device]
nmae = "porch"
[camera]
source = "usb"
fps = "fast"
crop = [0.5, 0, 0.6, 1]
[mqtt]
url = "mqtt://broker"
ca_file = "/ca.pem"
cert_file = "/cert.pem"
password_file = "/password"
[decision]
smoothing_s = -1
[wbe]
enabled = true
""",
        )
    )
    assert "has 9 errors:" in text
    for line in (
        "device.nmae (line 3): is not a setting; did you mean name?",
        "camera.source (line 5): must be auto, picamera2",
        "camera.fps (line 6): ",
        "camera.crop (line 7): must be [x, y, width, height]",
        "mqtt.ca_file (line 10): goes with mqtts://",
        "mqtt.cert_file (line 11): goes with mqtts://",
        "mqtt.password_file (line 12): needs mqtt.username",
        "decision.smoothing_s (line 14): ",
        "wbe (line 15): is not a setting",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('[camera]\nloop = true\nsource = "v4l2:0"', "loop (line 2): true goes with a file: source only"),
        ("[model]\nthreads = 4\nstreams = 2", "streams (line 3): runs inferences of one thread each"),
        ('[mqtt]\nurl = "mqtts://b"\ncert_file = "c"', "cert_file go together"),
        ('[mqtt]\nurl = "mqtt://me:secret@broker"', "must not hold a user or password"),
        ('[mqtt]\nurl = "mqtt://broker:99999"', "Port out of range"),
        ('[mqtt]\nbase = "edge/#"', "without wildcards"),
        ('[device]\nname = "front/porch"', "must be 1 to 63 letters"),
        (
            '[web]\nlisten = "0.0.0.0:5000"',
            "because others can reach 0.0.0.0:5000",
        ),
        ('[web]\nlisten = "[::]:5000"', "must name a file that holds a token"),
        ('[web]\nlisten = "porch.local:5000"', "must name a file that holds a token"),
        ('[web]\nlisten = "5000"', "must be an address and a port"),
        ('[web]\nlisten = "127.0.0.1:99999"', "must be an address and a port"),
        ('[web]\nlisten = "127.0.0.1:5000/x"', "must be an address and a port"),
    ],
)
def test_a_contradiction_says_what_to_do(tmp_path: Path, toml: str, message: str) -> None:
    text = errors_of(written(tmp_path, toml))
    assert message in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('[camera]\nloop = "yes"', "camera.loop (line 2): must be true or false"),
        ("[camera]\nloop = 1", "camera.loop (line 2): must be true or false"),
        ('[camera]\nfps = "10"', "camera.fps (line 2): must be a number, without quotes"),
        ("[camera]\nfps = true", "camera.fps (line 2): must be a number, without quotes"),
        ("[camera]\nfps = 1e-9", "camera.fps (line 2): must be 0 for no limit, or at least 0.01"),
        ("[camera]\nfps = 2026-11-22", "camera.fps (line 2): must be a number, without quotes"),
        ("[model]\nthreads = 2.0", "model.threads (line 2): must be a whole number, without quotes"),
        ("[model]\nbundle = 5", "model.bundle (line 2): must be text in quotes"),
        ("camera = 5", "camera (line 1): must be a section"),
        ("[mqtt]\nusername = 5", "mqtt.username (line 2): must be text in quotes"),
        *(
            (f"[camera]\ncrop = {crop}", "camera.crop (line 2): must be [x, y, width, height]")
            for crop in (
                "5",
                '"all"',
                "[0.5]",
                "[0, 0, 1, 1, 1]",
                '["0", "0", "1", "1"]',
                "[0, 0, 2, 1]",
                "[nan, 0, 1, 1]",
            )
        ),
    ],
)
def test_a_wrong_type_is_one_line_that_says_what_to_write(tmp_path: Path, toml: str, message: str) -> None:
    text = errors_of(written(tmp_path, toml))
    assert "has 1 error:" in text
    assert message in text


def test_a_whole_number_is_a_number(tmp_path: Path) -> None:
    camera = load_settings(
        written(tmp_path, "[camera]\nfps = 5\ncrop = [0, 0, 1, 0.5]\nsize = [320, 240]\n"), {}
    ).camera
    assert (camera.fps, camera.crop, camera.size) == (5.0, (0.0, 0.0, 1.0, 0.5), (320, 240))


@pytest.mark.parametrize(
    "toml",
    [
        'listen = "[::1]:0"',
        'listen = "localhost:8080"',
        'listen = "0.0.0.0:80"\ntoken_file = "/t"',
        'enabled = false\nlisten = "0.0.0.0:80"',
    ],
)
def test_the_page_is_open_only_to_this_machine_or_with_a_token(tmp_path: Path, toml: str) -> None:
    load_settings(written(tmp_path, f"[web]\n{toml}"), {})


def test_a_file_that_is_missing_or_not_toml_or_not_text(tmp_path: Path) -> None:
    assert "There is no config file" in errors_of(tmp_path / "none.toml")
    assert "is not TOML" in errors_of(written(tmp_path, "[camera\n"))
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in errors_of(tmp_path / "config.toml")
    assert "cannot be read" in errors_of(tmp_path)  # a directory


def test_the_environment_overrides_and_is_named_in_its_errors(tmp_path: Path) -> None:
    path = written(tmp_path, "[camera]\nfps = 5\n")
    settings = load_settings(
        path,
        {
            "EDGE_CLASSIFIER_CAMERA_FPS": "12.5",
            "EDGE_CLASSIFIER_CAMERA_SIZE": "[320, 240]",
            "EDGE_CLASSIFIER_CAMERA_ROTATE": "90",
            "EDGE_CLASSIFIER_WEB_ENABLED": "false",
            "EDGE_CLASSIFIER_MODEL_BUNDLE": "/b",
            "EDGE_CLASSIFIER_MQTT_URL": "mqtt://broker:1884",
            "EDGE_CLASSIFIER_MQTT_VERSION": "3.1.1",
            "EDGE_CLASSIFIER_DEVICE_NAME": "12",
            "EDGE_CLASSIFIER_SOMETHING_ELSE": "ignored",
        },
    )
    assert (settings.camera.fps, settings.camera.size, settings.mqtt.version) == (12.5, (320, 240), "3.1.1")
    assert (settings.camera.rotate, settings.web.enabled, settings.model.bundle) == (90, False, Path("/b"))
    assert (settings.mqtt.host, settings.mqtt.port, settings.device.name) == ("broker", 1884, "12")
    text = errors_of(path, {"EDGE_CLASSIFIER_MQTT_ULR": "x", "EDGE_CLASSIFIER_MODEL_THREADS": "many"})
    assert "mqtt.ulr (from EDGE_CLASSIFIER_MQTT_ULR): is not a setting; did you mean url?" in text
    assert "model.threads (from EDGE_CLASSIFIER_MODEL_THREADS)" in text
    text = errors_of(path, {"EDGE_CLASSIFIER_MQTT_URL": "\udce9", "EDGE_CLASSIFIER_CAMERA_LOOP": "yes"})
    assert "mqtt.url (from EDGE_CLASSIFIER_MQTT_URL): must look like" in text
    assert "camera.loop (from EDGE_CLASSIFIER_CAMERA_LOOP): must be true or false" in text


def test_a_reload_applies_what_is_live_and_names_what_waits() -> None:
    running = Settings()
    wanted = Settings.model_validate(
        {
            "decision": {"min_confidence": 50},
            "log": {"level": "debug"},
            "camera": {"fps": 3, "rotate": 90},
            "mqtt": {"url": "mqtt://elsewhere"},
        }
    )
    applied, waiting = live_change(running, wanted)
    assert (applied.decision, applied.log, applied.camera.fps) == (wanted.decision, wanted.log, 3)
    assert (applied.camera.rotate, applied.mqtt) == (0, running.mqtt)
    assert waiting == ["camera.rotate", "mqtt.url"]


def test_secrets_in_a_camera_url_are_masked(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, '[camera]\nsource = "rtsp://me:p%40ss@cam:554/1"\n'), {})
    assert 'source = "rtsp://***@cam:554/1"' in to_toml(settings)
    assert mask("opening rtsp://a:b@c/d failed") == "opening rtsp://***@c/d failed"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "rtsp://h:554/user=admin_password=tlJwpbo6_channel=1_stream=0.sdp?real_stream",
            "rtsp://h:554/user=***_password=***_channel=1_stream=0.sdp?real_stream",
        ),
        ("rtsp://h/1?auth_token=a/1", "rtsp://h/1?auth_token=***/1"),
        ("rtsp://h/1?access_token=a_b&channel=1", "rtsp://h/1?access_token=***&channel=1"),
        ("rtsp://h/1?passphrase=a=b failed", "rtsp://h/1?passphrase=*** failed"),
        ("rtsp://h/1?api_key=a&apikey=b", "rtsp://h/1?api_key=***&apikey=***"),
        ("rtsp://h/videostream.asf?loginuse=me&loginpas=a", "rtsp://h/videostream.asf?loginuse=***&loginpas=***"),
        ("rtsp://h/1?USERNAME=me&PW=a", "rtsp://h/1?USERNAME=***&PW=***"),
        ("rtsp://h/stream?channel=1&subtype=0", "rtsp://h/stream?channel=1&subtype=0"),
    ],
)
def test_secrets_in_the_path_or_the_query_of_a_camera_are_masked(url: str, shown: str) -> None:
    assert mask(url) == shown


def test_systemd_chooses_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/other")
    assert state_directory() == tmp_path
    assert Settings().fallback.path == tmp_path / "fallback.db"


def test_a_command_in_a_clone_finds_the_model_that_try_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert state_directory() != tmp_path / "state"  # nothing was made there
    (tmp_path / "state").mkdir()
    assert Settings().model.bundle == tmp_path / "state" / "models" / "current"
    monkeypatch.setenv("STATE_DIRECTORY", "/chosen")
    assert state_directory() == Path("/chosen")


def test_nothing_in_the_settings_can_be_changed_by_a_stage() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().decision.hold_s = 1  # type: ignore[misc]


@hypothesis_settings(deadline=None)  # a busy machine is no failure
@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_any_text_is_settings_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with contextlib.suppress(ConfigError):
        load_settings(path, {})
