"""Tests that a daemon with a bundle of ONNX Runtime never loads torch, whatever it is asked to do."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from edge.workshop.export.exporter import export_bundle
from tests.broker import Brokers, eventually
from tests.conftest import Configure
from tests.daemon_process import Daemon, environment, run_command, running
from tests.networks import real_weights
from tests.request_box import Asker
from tests.vision.signed import install, with_other_labels

WAIT_S = 60.0
LISTING = """
import sys
from edge.cli import main
code = main(["models", "list", "--json", "--config", sys.argv[1]])
assert code == 0 and not any(name.partition(".")[0] == "torch" for name in sys.modules)
"""


def libraries(daemon: Daemon) -> str:
    """The names of all files that the process has mapped, one on a line."""
    lines = Path(f"/proc/{daemon.process.pid}/maps").read_text(encoding="utf-8").splitlines()
    return "\n".join(sorted({parts[5] for line in lines if len(parts := line.split(maxsplit=5)) > 5}))


def page_of(daemon: Daemon) -> str | None:
    return next(
        (part.rstrip(".") for line in daemon.log.splitlines() for part in line.split() if "http://127" in part), None
    )


@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_that_the_daemon_is_asked_to_do_loads_torch(
    configure: Configure, photo_video: Path, tmp_path: Path, brokers: Brokers
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    bundle = export_bundle(
        real_weights("efficientnet_lite0"), tmp_path / "made", engine="onnxruntime", timing_s=0
    ).directory
    things = with_other_labels(bundle, tmp_path / "things")
    models = tmp_path / "models"
    install(models, bundle, things)
    broker = brokers.start()
    config = configure(
        camera_source=f"file:{photo_video}",
        camera_loop=True,
        camera_fps=15,
        decision_every_frame=True,
        model_bundle=str(models / "current"),
        mqtt_url=broker.url,
        web_enabled=True,
    )
    subscriber, asking = brokers.subscribe(broker), Asker(broker)
    try:
        with running(config) as daemon:
            daemon.wait_ready()
            page = str(eventually(lambda: page_of(daemon), "the page's address is logged", WAIT_S))
            assert httpx.get(page, timeout=WAIT_S).status_code == 200
            assert httpx.get(f"{page}/api/status", timeout=WAIT_S).json()["model"] == bundle.name
            photo = (bundle / "golden.jpg").read_bytes()
            assert httpx.put(f"{page}/predict", content=photo, timeout=WAIT_S).status_code == 200
            assert asking.ask("classify")["status"] == "ok"
            listing = [sys.executable, "-c", LISTING, str(config)]
            listed = subprocess.run(listing, env=environment(), capture_output=True, text=True, check=False)
            assert listed.returncode == 0, listed.stderr
            assert {row["name"] for row in json.loads(listed.stdout)["bundles"]} == {bundle.name, things.name}
            used = run_command("models", "use", things.name, "--config", config)
            assert (used.returncode, used.stdout) == (0, f"{things.name} runs now.\n")
            eventually(
                lambda: (said := subscriber.on("event")) and said[-1].json()["model"] == things.name,
                "the other bundle runs",
                WAIT_S,
            )
            mapped = libraries(daemon)
            assert "_multiarray_umath" in mapped  # NumPy's library is found in the same way
            assert "onnxruntime_pybind11" in mapped
            assert not [file for file in mapped.splitlines() if "torch" in Path(file).name or "/torch/" in file]
            daemon.stop()
            assert daemon.process.returncode == 0
    finally:
        asking.close()


def test_numpys_threads_sleep_as_soon_as_they_have_nothing_to_do() -> None:
    """Importing it starts OpenBLAS's threads, which would spin for up to 0.1 s."""
    program = "import os, sys; from edge.cli import main\nseen = []\n"
    program += "sys.addaudithook(lambda event, args: seen.append(os.environ.get('OPENBLAS_THREAD_TIMEOUT'))"
    program += " if event == 'import' and args[0] == 'numpy' else None)\n"
    program += "assert 'numpy' not in sys.modules\ntry: main(['--version'])\nexcept SystemExit: pass\nprint(seen[0])"
    kept = {name: value for name, value in environment().items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=kept)
    assert done.stdout.splitlines()[-1] == "10"
