"""Tests that waits double up to a limit, and that jitter shortens them by no more than the allowed part."""

from edge.backoff import Backoff

FIRST_S, CAP_S = 0.5, 10.0


def backoff(share: float, jitter: float = 0.5) -> Backoff:
    return Backoff(FIRST_S, CAP_S, jitter=jitter, random_share=lambda: share)


def test_back_off_doubles_up_to_its_cap_and_starts_again_after_a_reset() -> None:
    longest = backoff(1.0)
    waits = [longest.next_s() for _ in range(2000)]
    assert waits[:5] == [FIRST_S * 2**n for n in range(5)]
    assert max(waits) == waits[-1] == CAP_S
    longest.reset()
    assert longest.next_s() == FIRST_S


def test_jitter_takes_at_most_its_part() -> None:
    shortest, longest, none = backoff(0.0), backoff(1.0), backoff(0.0, jitter=1.0)
    assert [2 * shortest.next_s() for _ in range(9)] == [longest.next_s() for _ in range(9)]
    assert none.next_s() == 0.0


def test_a_failure_may_have_another_cap() -> None:
    longest = backoff(1.0)
    assert [longest.next_s(60.0) for _ in range(9)][-1] == 60.0
    assert longest.next_s() == CAP_S
