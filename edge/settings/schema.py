"""The settings: their sections, keys, types, defaults and limits.

They are frozen, and unknown keys are errors. Each stage is given its own section. `toml_file.py` reads them from TOML,
and deploy/config.toml explains every key to the user.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from edge.settings.defaults import default_bundle, default_device_name, state_directory

_SOURCE = re.compile(r"auto|picamera2(:\d+)?|v4l2:(\d+|/.+)|rtsps?://.+|csi://\d+|file:.+")
_TOPIC_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_CLIENT_ID = re.compile(r"[!-~]{0,128}")

MIN_FPS = 0.01


def _is_rate(fps: float) -> float:
    if 0 < fps < MIN_FPS:
        raise ValueError(f"must be 0 for no limit, or at least {MIN_FPS:g}, which is a frame in {1 / MIN_FPS:.0f} s")
    return fps


# The limits of what requests may change too.
FramesPerSecond = Annotated[float, Field(ge=0, le=240), AfterValidator(_is_rate)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Section(BaseModel):
    """Base of every section."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True)


class DeviceSettings(Section):
    """`[device]`: the name of this box."""

    name: str = Field(default_factory=default_device_name)

    @field_validator("name")
    @classmethod
    def _is_topic_level(cls, name: str) -> str:
        if not _TOPIC_LEVEL.fullmatch(name):
            raise ValueError("must be 1 to 63 letters, digits, '.', '_' or '-', because it is part of every topic")
        return name


class CameraSettings(Section):
    """`[camera]`: the source of the frames, and how they are cropped, rotated and flipped."""

    source: str = "auto"
    size: tuple[Annotated[int, Field(ge=16, le=8192)], Annotated[int, Field(ge=16, le=8192)]] = (640, 480)
    fps: FramesPerSecond = 0.0  # 0: no limit
    rotate: Literal[0, 90, 180, 270] = 0
    flip: Literal["", "horizontal", "vertical", "both"] = ""
    crop: tuple[float, float, float, float] | tuple[()] = ()
    loop: bool = False
    stall_after_s: float = Field(default=5.0, ge=1, le=60)

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        if not _SOURCE.fullmatch(source):
            raise ValueError(
                "must be auto, picamera2, v4l2:/dev/v4l/by-id/… (or v4l2:0), rtsp://…, csi://0 or file:PATH"
            )
        return source

    @field_validator("crop", mode="before")  # so that every mistake in it gives this one message
    @classmethod
    def _inside_frame(cls, given: object) -> tuple[float, ...]:
        crop = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        if crop == ():
            return ()
        if len(crop) == 4 and all(type(part) in (int, float) for part in crop):
            x, y, width, height = crop
            if 0 <= x < 1 and 0 <= y < 1 and 0 < width <= 1 - x + 1e-6 and 0 < height <= 1 - y + 1e-6:
                return float(x), float(y), float(width), float(height)
        raise ValueError("must be [x, y, width, height] as fractions of the frame that stay inside it, or []")

    @field_validator("loop")
    @classmethod
    def _loop_needs_file(cls, loop: bool, info: ValidationInfo) -> bool:
        if loop and not info.data.get("source", "file:").startswith("file:"):
            raise ValueError("true goes with a file: source only; a live camera never ends")
        return loop


class ModelSettings(Section):
    """`[model]`: which bundle runs, and on which device. `cuda` is experimental: it has never run on a Jetson."""

    bundle: Path = Field(default_factory=default_bundle, validate_default=False)  # it is a Path already
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0, le=256)  # 0: one for each core
    streams: int = Field(default=1, ge=0, le=64)  # 0: one for each core

    @field_validator("streams")
    @classmethod
    def _streams_have_one_thread(cls, streams: int, info: ValidationInfo) -> int:
        if streams != 1 and info.data.get("threads", 0) > 1:
            raise ValueError(f"runs inferences of one thread each; leave model.threads, {info.data['threads']}, out")
        return streams

    def with_threads_of_streams(self) -> ModelSettings:
        """The same with one thread for each inference where several run at the same time."""
        return self if self.streams == 1 else self.model_copy(update={"threads": 1})


class DecisionSettings(Section):
    """`[decision]`: when predictions become an event."""

    min_confidence: Percent = 20.0
    smoothing_s: float = Field(default=1.0, ge=0, le=60)
    hold_s: float = Field(default=0.5, ge=0, le=60)
    heartbeat_s: float = Field(default=30.0, ge=1, le=86400)
    every_frame: bool = False


class MqttSettings(Section):
    """`[mqtt]`: the broker and the credentials for it."""

    url: str = "mqtt://localhost:1883"
    base: str = "edge"
    version: Literal[5, "3.1.1"] = 5
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    key_password_file: str = ""
    client_id: str = ""  # "": edge-classifier-<device>
    wait_for_subscriber: bool = False
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    discovery_prefix: str = "homeassistant"
    snapshot_every_s: float = Field(default=0.0, ge=0, le=86400)  # 0: never

    @field_validator("version", mode="before")
    @classmethod
    def _version_from_text(cls, version: object) -> object:
        return 5 if version == "5" else version

    @field_validator("url")
    @classmethod
    def _broker_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("must look like mqtt://host:1883, or mqtts://host:8883 for TLS")
        if parts.username or parts.password:
            raise ValueError("must not hold a user or password; use mqtt.username and mqtt.password_file")
        _ = parts.port  # raises a ValueError that says why
        return url

    @field_validator("base", "discovery_prefix")
    @classmethod
    def _topic_prefix(cls, prefix: str) -> str:
        if not all(_TOPIC_LEVEL.fullmatch(level) for level in prefix.split("/")):
            raise ValueError("must be a topic prefix such as edge or home/edge, without wildcards")
        return prefix

    # A contradiction is an error of the later of its two keys, so that one run reports all of them.
    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _tls_only(cls, file: str, info: ValidationInfo) -> str:
        if file and not info.data.get("url", "mqtts:").startswith("mqtts:"):
            raise ValueError(f"goes with mqtts:// only, and mqtt.url is {info.data['url']}")
        return file

    @field_validator("key_file")
    @classmethod
    def _certificate_with_key(cls, key_file: str, info: ValidationInfo) -> str:
        if "cert_file" in info.data and bool(info.data["cert_file"]) != bool(key_file):
            raise ValueError("and cert_file go together: give both or neither")
        return key_file

    @field_validator("key_password_file")
    @classmethod
    def _passphrase_with_key(cls, key_password_file: str, info: ValidationInfo) -> str:
        if key_password_file and not info.data.get("key_file", "?"):
            raise ValueError("needs mqtt.key_file: it holds the passphrase of that key")
        return key_password_file

    @field_validator("client_id")
    @classmethod
    def _allowed_client_id(cls, client_id: str) -> str:
        if not _CLIENT_ID.fullmatch(client_id):
            raise ValueError("must be up to 128 printable ASCII characters without spaces")
        return client_id

    @field_validator("wait_for_subscriber")
    @classmethod
    def _knows_of_subscribers(cls, wait: bool, info: ValidationInfo) -> bool:
        if wait and info.data.get("version") == "3.1.1":
            raise ValueError("true goes with mqtt.version = 5 only; with 3.1.1 a broker does not report subscribers")
        return wait

    @field_validator("password_file")
    @classmethod
    def _password_with_user(cls, password_file: str, info: ValidationInfo) -> str:
        if password_file and not info.data.get("username", "?"):
            raise ValueError("needs mqtt.username: a broker takes a password only with a user")
        return password_file

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        """The broker's host."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The broker's port."""
        return urlsplit(self.url).port or (8883 if self.tls else 1883)

    @property
    def address(self) -> str:
        """Host and port of the broker, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class FallbackSettings(Section):
    """`[fallback]`: the log on disk for events that the broker has not acknowledged."""

    path: Path = Field(default_factory=lambda: state_directory() / "fallback.db", validate_default=False)
    fallback_after_s: float = Field(default=2.0, ge=0.1, le=2.5)  # plus the time of a commit: within the promised 3 s
    max_bytes: int = Field(default=268_435_456, ge=1_048_576)
    replay_per_s: float = Field(default=200.0, ge=0)  # 0: no limit


class WebSettings(Section):
    """`[web]`: the page and the REST API."""

    enabled: bool = True
    listen: str = "127.0.0.1:5000"  # port 0: any free one
    token_file: str = ""
    stream: bool = False  # /stream.mjpg; off by default for privacy

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, listen: str) -> str:
        try:
            parts = urlsplit(f"//{listen}")
            valid = bool(parts.hostname) and parts.port is not None and parts.netloc == listen and "@" not in listen
        except ValueError:
            valid = False
        if not valid:
            raise ValueError("must be an address and a port, such as 127.0.0.1:5000 or [::]:5000")
        if _is_for_many(parts.hostname or ""):
            raise ValueError(f"must be an address of this machine, and {parts.hostname} is one of many machines")
        return listen

    @field_validator("token_file")
    @classmethod
    def _token_for_others(cls, token_file: str, info: ValidationInfo) -> str:
        if not token_file and info.data.get("enabled") and not _is_loopback(info.data.get("listen", "localhost:0")):
            raise ValueError(
                f"must name a file that holds a token, because others can reach {info.data['listen']} (web.listen)"
            )
        return token_file

    @property
    def host(self) -> str:
        """The address to listen on."""
        return urlsplit(f"//{self.listen}").hostname or ""

    @property
    def port(self) -> int:
        """The port to listen on."""
        return urlsplit(f"//{self.listen}").port or 0


def _is_for_many(host: str) -> bool:
    """Whether `host` is a multicast or broadcast address: Linux lets a server listen there, where no client arrives."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_multicast or str(address) == "255.255.255.255"


def _is_loopback(listen: str) -> bool:
    host = urlsplit(f"//{listen}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class LogSettings(Section):
    """`[log]`: what journalctl shows."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """All sections."""

    device: DeviceSettings = DeviceSettings()
    camera: CameraSettings = CameraSettings()
    model: ModelSettings = Field(default_factory=ModelSettings)
    decision: DecisionSettings = DecisionSettings()
    mqtt: MqttSettings = MqttSettings()
    fallback: FallbackSettings = Field(default_factory=FallbackSettings)
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
