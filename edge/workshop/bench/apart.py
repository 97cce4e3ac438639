"""Calls a function in a thread of its own, as the daemon loads and infers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def apart(function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
    """Call `function` with the arguments in a thread that then ends; returns and raises what it does.

    OpenMP keeps a pool of threads for each thread that computes, until that thread ends. With more than one pool its
    threads sleep where they spin in the daemon, which has one.
    """
    with ThreadPoolExecutor(1, "apart") as thread:
        return thread.submit(function, *args, **kwargs).result()
