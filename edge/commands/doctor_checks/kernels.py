"""Check of the kernels of our own, which only ARM64 has."""

from __future__ import annotations

from edge.commands.doctor_checks.finding import Finding
from edge.kernels import library


def kernels() -> Finding:
    """Whether the kernels are built. No bundle has to use them, and where one does, `model` fails without them."""
    try:
        found = library.open_library()
    except library.KernelsError as error:
        return Finding("kernels", "ok", f"not in use. {error}")
    return Finding("kernels", "ok", f"built, for {found.instructions}; `export` compares them with torch's")
