"""The topics that the broker refuses: how long nothing is sent to them, and what is logged about it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from edge.backoff import Backoff
from edge.delivery.reasons import Kind
from edge.delivery.reports import Acknowledged
from edge.printable import shortened
from edge.repeating_fault import RepeatingFault

logger = logging.getLogger("edge.delivery")

HOLD_S = 600.0  # after a refusal that a person has to remove
SOON_FIRST_S, SOON_CAP_S = 2.0, 10.0  # after a temporary one, such as that of a full queue
PROBES = 3  # with one message; then with the next one, because only this message may be refused
MAX_REFUSED = 100  # topics that are remembered as refused
MAX_TOPIC = 200  # characters of a topic in the log; who sends a request chooses that of its answer


@dataclass(slots=True)
class _Hold:
    until: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(SOON_FIRST_S, SOON_CAP_S, jitter=0.5))


class Holds:
    """Used by the thread that owns the link.

    Args:
        clock: monotonic seconds.
        events: whether the link is that of the events, which are kept while they are refused.
    """

    def __init__(self, clock: Callable[[], float], *, events: bool) -> None:
        self._events = events
        self._clock = clock
        self._held: dict[str, _Hold] = {}
        self._over, self._over_at = "", 0.0  # what is to be logged if no refusal comes until then
        self._fault = RepeatingFault(logger, clock=clock)

    def allows(self, topic: str) -> bool:
        """Whether something may be sent to this topic now."""
        return not self._held or topic not in self._held or self._clock() >= self._held[topic].until

    def has_refused(self, topic: str) -> bool:
        """Whether the broker has refused this topic and not accepted it since, so that one message has to probe."""
        return topic in self._held

    def tried_enough(self, topic: str) -> bool:
        """Whether the message that was refused last has been tried often enough, so that another one should be."""
        return self._held[topic].backoff.failures % PROBES == 0

    def refused(self, topic: str, answer: Acknowledged) -> None:
        """Hold the topic for as long as the answer demands, and log it."""
        if topic not in self._held and len(self._held) >= MAX_REFUSED:
            del self._held[next(iter(self._held))]
        hold = self._held.setdefault(topic, _Hold())
        match answer.kind:
            case Kind.LATER | Kind.UNHEARD:
                # Messages that were sent together are one attempt.
                if self._clock() >= hold.until:
                    wait_s = hold.backoff.next_s()
                    hold.until = self._clock() + (0.0 if self.tried_enough(topic) else wait_s)
            case Kind.MESSAGE:
                hold.until = 0.0
            case _:
                hold.until = self._clock() + HOLD_S
        self._over = ""
        self._fault.happened(_sentence(shortened(topic, MAX_TOPIC), answer, events=self._events))

    def accepted(self, topic: str) -> None:
        """The broker has taken a message on this topic."""
        hold = self._held.pop(topic, None)
        if hold is not None and not self._held:
            self._over = f"The broker takes {shortened(topic, MAX_TOPIC)} again."
            # A broker with a quota takes some messages and refuses others, which is one fault.
            self._over_at = self._clock() + (SOON_CAP_S if hold.backoff.failures else 0.0)
            self.tick()

    def tick(self) -> None:
        """Log that no topic is refused any more, once that is sure."""
        if self._over and self._clock() >= self._over_at:
            self._fault.over(self._over)
            self._over = ""


def _sentence(topic: str, answer: Acknowledged, *, events: bool) -> str:
    match answer.kind:
        case Kind.UNHEARD:
            return f"Nobody subscribes to {topic}; its events are kept until somebody does (mqtt.wait_for_subscriber)."
        case Kind.LATER:
            return f"The broker does not take {topic} for now ({answer.reason}); {answer.advice}."
        case Kind.MESSAGE:
            return f"The broker refuses a message on {topic} ({answer.reason}); {answer.advice}."
        case _:
            meanwhile = "events stay in the log" if events else "nothing else is sent there"
            return (
                f"The broker refuses {topic} ({answer.reason}); {answer.advice}. "
                f"It is tried again later, and {meanwhile} until then."
            )
