"""Refuses a bundle that was made for another processor."""

from __future__ import annotations

from edge.board.processor import has_vnni, host_target
from edge.errors import BundleError
from edge.vision.manifest import Manifest


def refuse_other_processor(manifest: Manifest, *, adds_pairs: bool) -> None:
    """Refuse a bundle for another instruction set, and weights of full range where two products would saturate.

    Args:
        manifest: of the bundle.
        adds_pairs: whether its kernels add two products in 16 bits on a processor without VNNI.

    Raises:
        BundleError: this processor cannot run it.
    """
    host, quantization = host_target(), manifest.quantization
    if manifest.target not in (host, "any"):
        raise BundleError(f"The bundle was made for {manifest.target} and this is {host}; export it here.")
    small_pairs = quantization is not None and quantization.small_pairs
    if adds_pairs and not small_pairs and not has_vnni():
        raise BundleError("The bundle was made for a CPU with VNNI, which this one lacks; export it again here.")
