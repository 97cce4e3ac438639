"""The whole daemon for the web tests: real weights, a video of real photos, a real broker."""

import re
from pathlib import Path

from tests import daemon_process
from tests.broker import eventually


def write_config(folder: Path, video: Path, bundle: Path, broker_url: str, web: str = "") -> Path:
    """Write a config file into a new folder; returns its path."""
    folder.mkdir()
    config = folder / "config.toml"
    config.write_text(
        f"""
[device]
name = "porch"
[camera]
source = "file:{video}"
fps = 10.0
loop = true
[model]
bundle = "{bundle}"
[mqtt]
url = "{broker_url}"
[fallback]
path = "{folder}/fallback.db"
[web]
{web}
"""
    )
    return config


def page_of(running: daemon_process.Daemon) -> str:
    """The page's address, once it is served."""
    found = eventually(lambda: re.search(r"The page is at (http://\S+)", running.log), "the page is up", 60.0)
    return str(found[1])
