"""Export and classify with what a Raspberry Pi on trixie gets; `scripts/test-wheels` calls this.

usage: trixie.py WEIGHTS EXPECTED PHOTO...
EXPECTED is the best class of each photo, joined with commas. Exits with 0 when the photos get these classes and all
packages but torch are Debian's; otherwise with a sentence.
"""

import contextlib
import importlib
import io
import json
import platform
import sys
import tempfile
import time

from edge.cli import main as edge_classifier

DEBIAN = "/usr/lib/python3/dist-packages/"
FROM_DEBIAN = ("numpy", "cv2", "pydantic", "paho.mqtt", "tqdm", "fastapi", "uvicorn", "prometheus_client")


def run(*arguments: str) -> list[str]:
    """The lines that `edge-classifier` prints; exits where it fails."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = edge_classifier(list(arguments))
    if code:
        sys.exit(f"edge-classifier {arguments[0]} ended with {code}.")
    return printed.getvalue().splitlines()


def main() -> int:
    """Check where the packages come from, export, classify, compare."""
    weights, expected, *photos = sys.argv[1:]
    modules = {name: importlib.import_module(name) for name in (*FROM_DEBIAN, "torch")}
    debians = {name for name, module in modules.items() if str(module.__file__).startswith(DEBIAN)}
    if debians != set(FROM_DEBIAN):
        sys.exit(f"Only these of {', '.join(modules)} are Debian's: {', '.join(debians)}.")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as models:
        report = json.loads(run("export", "--weights", weights, "--output", models, "--json")[-1])
        exported = time.monotonic()
        answers = [json.loads(line) for line in run("classify", "--model", f"{models}/current", "--json", *photos)]
    found = ",".join(str(answer["top"][0]["index"]) for answer in answers)
    versions = (f"{name} {module.__version__}" for name, module in modules.items() if hasattr(module, "__version__"))
    print(f"{platform.machine()}, Python {platform.python_version()}: {', '.join(versions)}")
    print(f"{report['target']}, {report['engine']}: exported in {exported - began:.0f} s,", end=" ")
    print(f"{len(answers)} photos classified in {time.monotonic() - exported:.0f} s: {found}")
    if found != expected:
        sys.exit(f"The classes should be {expected}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
