"""Tests that the model can be swapped under a live stream: no event is lost, and a bad model changes nothing."""

import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.workshop.export.exporter import export_bundle
from tests.broker import Brokers, Subscriber, eventually
from tests.conftest import Configure
from tests.daemon_process import Daemon, run_command, running
from tests.networks import NETWORKS, bundle_of
from tests.request_box import Asker
from tests.vision.signed import install, lying, with_other_labels
from tests.workshop.export.trained_like import trained_like

WAIT_S = 60.0


@pytest.fixture(scope="module")
def other_dir(variants: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with another input and border: a ResNet-18, with random weights if there are no real ones."""
    if "resnet18" in NETWORKS:
        return bundle_of("resnet18", tmp_path_factory)
    return export_bundle(trained_like("resnet18", variants[:8]), tmp_path_factory.mktemp("other")).directory


def everything_said(daemon: Daemon, subscriber: Subscriber, config: Path) -> list[dict[str, Any]]:
    """All events that the subscriber received and the log holds, once all have arrived: each id once, without a gap."""
    made = int(re.search(r"(\d+) events made", daemon.log)[1])  # type: ignore[index]
    stored = [json.loads(line) for line in run_command("fallback", "export", "--config", config).stdout.splitlines()]

    def events_so_far() -> list[dict[str, Any]]:
        heard = [message.json() for message in (*subscriber.on("event"), *subscriber.on("replay"))]
        return sorted({event["id"]: event for event in [*heard, *stored]}.values(), key=by_id)

    eventually(lambda: len(events_so_far()) == made, f"all {made} events arrive", WAIT_S)
    events = events_so_far()
    assert [int(event["id"].rsplit("-", 1)[1]) for event in events] == list(range(made))
    return events


def verify_listing(models: Callable[..., Any], now: str, next_start: str) -> None:
    """`models list` shows what the daemon uses now, although the link names another bundle."""
    rows = {row["name"]: row for row in json.loads(models("list", "--json").stdout)["bundles"]}
    assert [(name, row["current"]) for name, row in rows.items() if row["running"]] == [(now, False)]
    listed = models("list").stdout
    assert f"* {now} " in listed
    assert f"> {next_start} " in listed
    assert "* in use   > used from the next start   < before it" in listed


@pytest.mark.timeout(400)
def test_models_are_swapped_under_a_live_stream_and_every_event_is_accounted_for(
    configure: Configure, photo_video: Path, bundle_dir: Path, other_dir: Path, tmp_path: Path, brokers: Brokers
) -> None:
    liar, things = lying(bundle_dir, tmp_path / "liar"), with_other_labels(bundle_dir, tmp_path / "things")
    installed = install(tmp_path / "models", bundle_dir, other_dir, liar, things)
    broker = brokers.start()
    subscriber = brokers.subscribe(broker)
    config = configure(
        camera_source=f"file:{photo_video}",
        camera_loop=True,
        camera_fps=15,
        decision_every_frame=True,
        model_bundle=str(tmp_path / "models" / "current"),
        mqtt_url=broker.url,
        web_enabled=True,
    )
    order = [bundle_dir.name]

    def runs(name: str) -> None:
        """Wait for some new events of this model."""
        eventually(
            lambda: len(subscriber.on("event")) > 5 and subscriber.on("event")[-1].json()["model"] == name,
            f"events of {name}",
            WAIT_S,
        )
        order.append(name)

    def use(*arguments: str) -> Any:
        return run_command("models", *arguments, "--config", config)

    with running(config) as daemon:
        daemon.wait_ready()
        used = use("use", other_dir.name)
        assert (used.returncode, used.stdout) == (0, f"{other_dir.name} runs now.\n")
        runs(other_dir.name)
        installed.switch(bundle_dir.name)  # as `export` does: the daemon goes on with the other one
        verify_listing(use, now=other_dir.name, next_start=bundle_dir.name)
        installed.switch(other_dir.name)
        assert status_of(daemon)["model"] == model_of(daemon)["name"] == other_dir.name

        refused = use("use", liar.name)
        assert refused.returncode == 65
        assert "The running model stays" in refused.stderr
        assert "answers its golden photo" in refused.stderr
        assert installed.current == model_of(daemon)["name"] == other_dir.name

        asking = Asker(broker)
        try:
            back = asking.ask("rollback", {"transaction": "t-1"})
            assert back == {"status": "ok", "transaction": "t-1", "model": bundle_dir.name}
            runs(bundle_dir.name)
            wrong = asking.ask("use", {"name": liar.name, "transaction": "t-2"})
            assert (wrong["status"], wrong["transaction"]) == ("error", "t-2")
            assert "There is no bundle" in asking.ask("use", {"name": "../../etc"})["error"]
            assert asking.ask("use", {"name": things.name})["status"] == "ok"
            runs(things.name)
        finally:
            asking.close()
        assert (installed.current, installed.previous) == (things.name, bundle_dir.name)
        daemon.stop()
        assert daemon.process.returncode == 0

    events = everything_said(daemon, subscriber, config)
    models = [event["model"] for event in events]
    assert [name for name, after in zip(models, [*models[1:], None], strict=True) if name != after] == [
        bundle_dir.name,
        other_dir.name,
        bundle_dir.name,
        things.name,
    ]
    for event, before in zip(events[1:], events, strict=False):
        if event["model"] != before["model"]:
            assert event["reason"] == "change"  # a new model is published at once
        assert event["label"].startswith("thing ") == (event["model"] == things.name and event["label"] != "unknown")
        assert all(top["label"].startswith("thing ") == (event["model"] == things.name) for top in event["top"])


# Runs the daemon, and kills it just before or just after a link of models/ is renamed into place.
KILLED = """
import os, signal, sys
link, moment = sys.argv[1:3]
sys.argv[1:3] = []
hit = False
def on_rename(event, args):
    global hit
    if event == "os.rename" and not hit and os.path.basename(args[1]) == link:
        hit = True
        if moment == "after":
            os.replace(args[0], args[1])
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(on_rename)
from edge.cli import main
sys.exit(main())
"""


@pytest.mark.timeout(400)
def test_a_daemon_that_is_killed_while_it_changes_the_model_starts_again_with_a_sound_one(
    configure: Configure, photo_video: Path, bundle_dir: Path, tmp_path: Path, brokers: Brokers
) -> None:
    first, things = bundle_dir.name, with_other_labels(bundle_dir, tmp_path / "things").name
    installed = install(tmp_path / "models", bundle_dir, tmp_path / "things" / things)
    broker = brokers.start()
    subscriber = brokers.subscribe(broker)
    camera = {"camera_source": f"file:{photo_video}", "camera_loop": True, "camera_fps": 10}
    config = configure(**camera, model_bundle=str(installed.directory / "current"), mqtt_url=broker.url)
    for link, moment, left in (
        ("previous", "before", (first, None)),
        ("current", "before", (first, first)),  # between the two links
        ("current", "after", (things, first)),  # between the link and the swap
    ):
        command = [sys.executable, "-c", KILLED, link, moment, "run", "--config", str(config)]
        daemon = Daemon(command, config.parent)
        try:
            daemon.wait_ready()
            result = run_command("models", "use", things, "--config", config)
            assert daemon.process.wait(WAIT_S) == -signal.SIGKILL
        finally:
            daemon.close()
        assert "The daemon gave no answer" in result.stderr
        assert (installed.current, installed.previous) == left
    with running(config) as daemon:
        daemon.wait_ready()
        eventually(
            lambda: (said := subscriber.on("event")) and said[-1].json()["model"] == things,
            "it says something again, with the other model",
            WAIT_S,
        )
        result = run_command("models", "rollback", "--config", config)
        assert (result.returncode, result.stdout) == (0, f"{first} runs now.\n")
        eventually(lambda: subscriber.on("event")[-1].json()["model"] == first, "the first model runs", WAIT_S)
        daemon.stop()


def by_id(event: dict[str, Any]) -> str:
    return str(event["id"])


def address(daemon: Daemon) -> str:
    def found() -> str | None:
        return next((part for line in daemon.log.splitlines() for part in line.split() if "http://127" in part), None)

    return str(eventually(found, "the page's address is logged", WAIT_S)).rstrip(".")


def status_of(daemon: Daemon) -> dict[str, Any]:
    return dict(httpx.get(f"{address(daemon)}/api/status", timeout=WAIT_S).json())


def model_of(daemon: Daemon) -> dict[str, Any]:
    return dict(httpx.get(f"{address(daemon)}/api/model", timeout=WAIT_S).json())
