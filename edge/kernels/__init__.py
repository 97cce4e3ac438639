"""Kernels of our own for ARM64: C and assembly, built by `cc` at install, called through ctypes. The ABI: `trunk.h`."""
