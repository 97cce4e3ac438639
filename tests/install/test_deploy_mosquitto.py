"""Tests that each broker example in deploy/mosquitto starts, and serves a box configured as its comment describes."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge.commands.doctor_checks import broker as doctor
from edge.commands.try_broker import find_mosquitto, running
from edge.delivery.delivery import Delivery
from edge.delivery.topics import discovery_topic
from edge.events import event_ids
from edge.settings.schema import MqttSettings, Settings
from edge.settings.toml_file import load_settings
from edge.status.snapshot import Status
from tests.broker import Certificates, eventually, free_port
from tests.delivery.driver import make_event
from tests.installer import CHECKOUT

EXAMPLES = CHECKOUT / "deploy" / "mosquitto"
PASSWORDS = {"porch": "the-password-of-porch", "viewer": "the-password-of-the-viewer"}

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


class Site:
    """What the examples call /etc/mosquitto, with certificates and passwords, and the brokers started from it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack
        self.central_port = free_port()
        self._certificates = Certificates(directory)
        self._certificates.make()
        for name in ("broker", *PASSWORDS):
            self._certificates.issue(name)
        for flags, (user, password) in zip(("-c", ""), PASSWORDS.items(), strict=True):
            subprocess.run(
                ["mosquitto_passwd", "-b", *flags.split(), "passwords", user, password],
                cwd=directory,
                check=True,
                capture_output=True,
            )
        (directory / "mqtt-password").write_text(PASSWORDS["porch"] + "\n")
        shutil.copy(EXAMPLES / "acl", directory)

    def here(self, text: str, port: int) -> str:
        """An example's text, changed to this machine's ports and paths."""
        text = re.sub(r"(?m)^listener \d+.*", f"listener {port} 127.0.0.1\nuser root", text)
        text = re.sub(r"broker\.example:\d+", f"127.0.0.1:{self.central_port}", text)
        return re.sub(r"/etc/mosquitto/certs/|/etc/mosquitto/|/etc/edge-classifier/", f"{self.directory}/", text)

    def start(self, example: str, port: int) -> None:
        # Debian's own mosquitto.conf comes first, and a setting that both have would be refused as a duplicate.
        text = f"persistence true\npersistence_location {self.directory}/\nlog_dest stderr\n"
        config = self.directory / example
        config.write_text(text + self.here((EXAMPLES / example).read_text(encoding="utf-8"), port))
        self.run(config, port)

    def run(self, config: Path, port: int) -> None:
        """Start a broker from a config, and wait until it listens."""
        mosquitto = find_mosquitto()
        assert mosquitto is not None
        log = config.with_suffix(".log")
        process = self._stack.enter_context(running([mosquitto, "-c", str(config)], log))
        eventually(
            lambda: f"listen socket on port {port}" in log.read_text() or process.poll(), f"{config.name} listens"
        )
        assert process.poll() is None, log.read_text()

    def box(self, example: str) -> Settings:
        """The settings for a box in an example's comment."""
        comment = (EXAMPLES / example).read_text(encoding="utf-8")
        config = self.directory / "config.toml"
        toml = [line[3:].strip() for line in comment.splitlines() if re.match(r"#   (\[\w+\]|\w+ = )", line)]
        config.write_text(self.here("\n".join(toml), self.central_port))
        return load_settings(config, environment={})

    def say(self, settings: Settings, device: str) -> Status:
        """Run a box that publishes one event; returns its status, which is updated until the test ends."""
        status = Status()
        fallback = settings.fallback.model_copy(update={"path": self.directory / f"{device}.db"})
        delivery = Delivery(settings.mqtt, fallback, device, "5f1c2e7a", status)
        delivery.start()
        self._stack.callback(delivery.stop, 5.0)
        delivery.put(make_event(event_ids(device, "5f1c2e7a", 1), device=device, reason="change"))
        return status

    def tells(self, topic: str, message: str, *options: str) -> None:
        """Publish a retained message on a topic."""
        client = ["mosquitto_pub", "-h", "127.0.0.1", "-t", topic, "-m", message, "-q", "1", "-r", *options]
        subprocess.run(client, check=True, cwd=self.directory)

    def hears(self, topic: str, *options: str) -> bytes:
        """The first message on a topic; a late subscriber still gets a retained one."""
        client = ["mosquitto_sub", "-h", "127.0.0.1", "-t", topic, "-C", "1", "-W", "20", *options]
        return subprocess.run(client, capture_output=True, check=False, cwd=self.directory).stdout

    def installer(self, command: str) -> str:
        """The output of functions of the installer, with `machine` as the machine's root."""
        script = f"""
            at={self.directory}/machine; name=edge-classifier root=$at/opt state=$at/state host= broker=none log=$at/log
            config=$at/etc/config.toml broker_config=$at/mosquitto/conf.d/edge-classifier.conf
            systemctl() {{ echo "systemctl $*"; }}; getent() {{ return 1; }}; mkdir -p $at/mosquitto/conf.d
            for stage in config uninstall; do . scripts/install/$stage.sh; done; {command}"""
        result = subprocess.run(["bash", "-euc", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def machine(self, file: str, text: str) -> Path:
        """Write a file of that machine."""
        path = self.directory / "machine" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def published(status: Status) -> bool:
    return status.snapshot().counters.get("events_published", 0) == 1


def test_the_loopback_broker_serves_the_default_settings(site: Site) -> None:
    port = free_port()
    site.start("loopback.conf", port)
    box = Settings(mqtt=MqttSettings(url=f"mqtt://127.0.0.1:{port}"))
    status = site.say(box, "porch")
    eventually(lambda: published(status), "the event is acknowledged")
    assert b'"label":"alp"' in site.hears("edge/porch/prediction", "-p", str(port))


def test_the_broker_with_tls_and_passwords_serves_the_box_of_its_comment(site: Site) -> None:
    site.start("tls.conf", site.central_port)
    settings = site.box("tls.conf")
    status = site.say(settings, settings.device.name)
    eventually(lambda: published(status), "the event is acknowledged")
    viewer = ("-p", str(site.central_port), "--cafile", "ca.crt", "-u", "viewer", "-P", PASSWORDS["viewer"])
    assert b'"label":"alp"' in site.hears("edge/porch/prediction", *viewer)


@pytest.mark.parametrize("example", ["loopback.conf", "tls.conf", "mtls.conf", "bridge.conf"])
def test_each_example_takes_the_place_of_another(example: str) -> None:
    # Together they would use the same port, or open each other's listeners.
    assert "# Copy to /etc/mosquitto/conf.d/edge-classifier.conf" in (EXAMPLES / example).read_text(encoding="utf-8")


def test_a_box_may_announce_itself_to_home_assistant(site: Site) -> None:
    site.start("tls.conf", site.central_port)
    topic = discovery_topic(site.box("tls.conf").mqtt, "porch")
    who = ["-p", str(site.central_port), "--cafile", "ca.crt"]
    site.tells(topic, "here", *who, "-u", "porch", "-P", PASSWORDS["porch"])
    assert site.hears(topic, *who, "-u", "viewer", "-P", PASSWORDS["viewer"]) == b"here\n"


def test_a_box_may_not_speak_for_another(site: Site) -> None:
    site.start("tls.conf", site.central_port)
    status = site.say(site.box("tls.conf"), "garage")
    eventually(lambda: status.snapshot().counters.get("events_refused", 0), "the refusal is counted")
    assert not published(status)


def test_doctor_finds_nothing_wanting_in_the_access_list(site: Site) -> None:
    site.start("tls.conf", site.central_port)
    settings = site.box("tls.conf")
    name = settings.device.name
    # Retained, as by a running box. If the access list hid it from the box, doctor could not find twins.
    who = ["-p", str(site.central_port), "--cafile", "ca.crt", "-u", name, "-P", PASSWORDS[name]]
    site.tells(f"edge/{name}/status", "{}", *who)
    nothing_refused = settings.fallback.model_copy(update={"path": site.directory / "none.db"})
    findings = [
        doctor.access(settings.mqtt, name, nothing_refused),
        doctor.twin(settings.mqtt, name, listen_s=10.0, runs=lambda: True),
    ]
    assert [finding.severity for finding in findings] == ["ok", "ok"], findings


def test_the_broker_with_client_certificates_serves_the_box_of_its_comment(site: Site) -> None:
    site.start("mtls.conf", site.central_port)
    status = site.say(site.box("mtls.conf"), "porch")
    eventually(lambda: published(status), "the event is acknowledged")
    viewer = ("-p", str(site.central_port), "--cafile", "ca.crt", "--cert", "viewer.crt", "--key", "viewer.key")
    assert b'"label":"alp"' in site.hears("edge/porch/prediction", *viewer)


def test_the_bridge_passes_on_to_the_central_broker(site: Site) -> None:
    site.start("tls.conf", site.central_port)
    port = free_port()
    site.start("bridge.conf", port)
    status = site.say(Settings(mqtt=MqttSettings(url=f"mqtt://127.0.0.1:{port}")), "porch")
    eventually(lambda: published(status), "the event is acknowledged")
    viewer = ("-p", str(site.central_port), "--cafile", "ca.crt", "-u", "viewer", "-P", PASSWORDS["viewer"])
    assert b'"label":"alp"' in site.hears("edge/porch/prediction", *viewer)


INSTALL_A_BROKER = 'choose_broker; if [ "$broker" = local ]; then start_broker; fi; echo "$broker"'
OURS = "mosquitto/conf.d/edge-classifier.conf"


def test_a_first_install_brings_a_broker_and_again_does_so_until_a_release_runs(site: Site) -> None:
    site.machine("etc/config.toml", '[mqtt]\nurl = "mqtt://localhost:1883"\n')  # left by an install that failed later
    for _ in range(2):
        assert site.installer(INSTALL_A_BROKER).splitlines()[-2:] == ["systemctl restart mosquitto", "local"]
    assert (site.directory / "machine" / OURS).read_bytes() == (EXAMPLES / "loopback.conf").read_bytes()
    site.machine("opt/current/release", "runs")
    assert site.installer(INSTALL_A_BROKER) == "none\n"


def test_a_config_that_names_another_broker_gets_none_here(site: Site) -> None:
    site.machine("etc/config.toml", "[mqtt]\nurl='mqtts://broker.example:8883'\n")
    assert site.installer(INSTALL_A_BROKER) == "none\n"


def test_a_broker_that_somebody_set_up_stays_closed(site: Site) -> None:
    port, home = free_port(), site.directory / "machine" / "mosquitto"
    own = site.machine(
        "mosquitto/conf.d/own.conf",
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {site.directory}/passwords\nuser root\n",
    )
    main = site.machine("mosquitto/mosquitto.conf", f"log_dest stderr\ninclude_dir {home}/conf.d\n")
    before = sorted(home.rglob("*"))
    assert site.installer(INSTALL_A_BROKER + "; operators_broker") == f"operators\n{own}\n"
    assert sorted(home.rglob("*")) == before
    site.run(main, port)
    anybody = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-t", "edge/porch/event", "-m", "not mine"]
    assert subprocess.run(anybody, capture_output=True, check=False).returncode != 0
    site.tells("edge/porch/event", "mine", "-p", str(port), "-u", "porch", "-P", PASSWORDS["porch"])


def test_what_an_operator_put_in_place_of_the_installers_file_is_the_operators(site: Site) -> None:
    own = site.machine(OURS, (EXAMPLES / "tls.conf").read_text())
    assert site.installer(INSTALL_A_BROKER) == "operators\n"
    assert own.read_text() == (EXAMPLES / "tls.conf").read_text()


def test_a_purge_takes_the_installers_broker_along_and_never_the_operators(site: Site) -> None:
    assert "systemctl restart mosquitto" in site.installer("start_broker; remove_traces")
    assert not (site.directory / "machine" / OURS).exists()
    own = site.machine(OURS, (EXAMPLES / "tls.conf").read_text())
    assert site.installer("remove_traces") == ""
    assert own.exists()
