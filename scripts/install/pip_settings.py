"""Prints those of pip's settings that say how it reaches an index, as NAME=VALUE lines for pip's environment.

The others are for what their user installs. Here they would make pip install elsewhere (`user`, `target`, `prefix`), or
nothing (`dry-run`), or refuse (`require-hashes`, `constraint`). Needs a Python with pip; exits with pip's code.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

TO_THE_INDEX = (
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "cert", "client-cert"),
    *("timeout", "default-timeout", "retries", "cache-dir", "no-cache-dir", "keyring-provider", "use-feature"),
)
SECTIONS = ("global", "install", ":env:")  # the later one counts


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"PIP_{name.replace('-', '_').upper()}"


def main() -> int:
    """Print the settings in effect; returns the exit code."""
    kept = {"PIP_CONFIG_FILE", *map(variable, TO_THE_INDEX)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name in kept}
    environment |= dict.fromkeys(("PIP_QUIET", "PIP_USER", "PIP_GLOBAL", "PIP_SITE"), "0")  # options of this command
    command = [sys.executable, "-I", "-m", "pip", "config", "list"]  # -I: without PYTHONPATH, where another pip may be
    listed = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=False)
    found: dict[tuple[str, str], str] = {}
    for section, name, value in re.findall(r"^([\w:]+)\.([\w-]+)=('.*'|\".*\")$", listed.stdout, re.MULTILINE):
        found[section, name] = " ".join(ast.literal_eval(value).split())  # one value a line in pip.conf
    wanted = {name: found[section, name] for section in SECTIONS for name in TO_THE_INDEX if found.get((section, name))}
    if "find-links" not in wanted:
        wanted.pop("no-index", None)  # nothing could be installed
    for name, value in wanted.items():
        print(f"{variable(name)}={value}")
    return listed.returncode


if __name__ == "__main__":
    sys.exit(main())
