"""Checks the form of an error message that a user sees."""

from collections.abc import Callable

import pytest

from edge.errors import EdgeClassifierError


def one_sentence(error: type[EdgeClassifierError], call: Callable[[], object]) -> str:
    """The message with which `call` fails; it has to be whole sentences on one line."""
    with pytest.raises(error) as refused:
        call()
    message = str(refused.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message
