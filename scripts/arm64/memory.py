"""Measure the resident memory of the whole daemon on an emulated ARM64 system, as docs/performance.md states it.

usage: memory.py BUNDLE VIDEO ROOT PYTHON
ROOT is an ARM64 system such as scripts/test-wheels makes, and PYTHON the name of its Python, such as python3.13.
PYTHONPATH names this checkout and what the system lacks, such as ONNX Runtime. Prints the memory after the first event
and after the page was opened, with the files that have most of it. Needs mosquitto, its clients and qemu-user.

QEMU's user-mode emulation keeps the emulated program's address space in one reserved range (its options -B and -R), so
the pages in that range, as the emulator's smaps counts them, are the program's, and none of the emulator's own.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

MAPPING = re.compile(r"^([0-9a-f]+)-[0-9a-f]+ \S+ \S+ \S+ (\d+)\s*(.*)$")
RANGE = range(1 << 44, (1 << 44) + (1 << 36))
SETTLED_S = 10.0  # after an event, until the memory is read
WITHIN_S = 600.0


def resident(process: int) -> Counter[str]:
    """The bytes of the emulated program's resident pages by mapped file, the anonymous ones under an empty name."""
    found: Counter[str] = Counter()
    name: str | None = None
    for line in Path(f"/proc/{process}/smaps").read_text(encoding="utf-8").splitlines():
        if mapping := MAPPING.match(line):
            address, inode, path = mapping.groups()
            name = None if int(address, 16) not in RANGE else path if int(inode) else ""
        elif name is not None and line.startswith("Rss:"):
            found[name] += int(line.split()[1]) * 1024
    return found


def report(when: str, process: int) -> None:
    """Print the sum, and the files with the most pages."""
    found = resident(process)
    anonymous = found.pop("", 0)
    largest = ", ".join(f"{Path(path).name} {size / 1e6:.1f}" for path, size in found.most_common(6))
    print(f"{when}: {(anonymous + found.total()) / 1e6:.1f} MB, {anonymous / 1e6:.1f} of them anonymous; {largest}")


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def open_page(address: str) -> None:
    """Fetch a page of the daemon's."""
    with urllib.request.urlopen(address, timeout=WITHIN_S) as answer:
        answer.read()


def main() -> int:
    """Start the broker and the daemon, and print its memory twice."""
    bundle, video, root, python = sys.argv[1:]
    command = ["qemu-aarch64", "-B", hex(RANGE.start), "-R", hex(len(RANGE)), "-L", root, "-cpu", "cortex-a72"]
    command += [f"{root}/usr/bin/{python}", "-W", "ignore", "-m", "edge", "run"]
    broker_port, page_port = free_port(), free_port()
    page = f"http://127.0.0.1:{page_port}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "mosquitto.conf")
        config.write_text(f"listener {broker_port} 127.0.0.1\nallow_anonymous true\n", encoding="utf-8")
        settings = {
            "CAMERA_SOURCE": f"file:{video}",
            "CAMERA_LOOP": "true",
            "FALLBACK_PATH": f"{folder}/fallback.db",
            "MODEL_BUNDLE": bundle,
            "MQTT_URL": f"mqtt://127.0.0.1:{broker_port}",
            "WEB_LISTEN": f"127.0.0.1:{page_port}",
        }
        # The allocator as in without-torch.conf.
        environment = (
            os.environ
            | {"MALLOC_ARENA_MAX": "1"}
            | {f"EDGE_CLASSIFIER_{key}": value for key, value in settings.items()}
        )
        hear = ["mosquitto_sub", "-p", str(broker_port), "-t", "edge/+/event", "-C", "1", "-W", str(int(WITHIN_S))]
        with subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL) as broker:
            daemon = subprocess.Popen(command, env=environment)
            try:
                while subprocess.run(hear, check=False, stdout=subprocess.DEVNULL).returncode:
                    time.sleep(1)  # the broker may not listen yet
                    if daemon.poll() is not None:
                        sys.exit(f"The daemon ended with {daemon.returncode}.")
                time.sleep(SETTLED_S)
                report("with frames", daemon.pid)
                open_page(f"{page}/")
                open_page(f"{page}/api/status")
                report("page opened", daemon.pid)
            finally:
                daemon.terminate()
                daemon.wait()
                broker.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
