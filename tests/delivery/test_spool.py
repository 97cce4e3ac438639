"""Tests when a refused event is tried again, over minutes, with a clock that the test moves."""

from itertools import pairwise
from pathlib import Path

import pytest

from edge.delivery.fallback import FallbackLog
from edge.delivery.outbox import Outbox
from edge.delivery.spool import RETRY_REFUSED_S, Spool
from edge.status.snapshot import Status
from tests.delivery.room import MAX_BYTES


@pytest.mark.parametrize(("takes_others", "rare"), [(False, False), (True, True)])
def test_what_a_full_queue_refuses_is_tried_every_few_seconds_until_the_broker_takes_others_instead(
    tmp_path: Path, takes_others: bool, rare: bool
) -> None:
    now, outbox = 1000.0, Outbox()
    spool = Spool(FallbackLog(tmp_path / "fallback.db", MAX_BYTES), 0.0, "boot", Status(), lambda: now)
    spool.open()
    for number in range(3):
        outbox.add(b'{"id": "%d"}' % number, now)
    assert spool.commit(outbox)
    spool.rewind()
    attempts: list[float] = []
    while now < 1000.0 + 20 * 60:
        while spool.wait_s() == 0 and (entry := spool.next()) is not None:
            attempts.append(now)
            if takes_others:
                spool.broker_takes()
            spool.refused(entry[0], "Quota exceeded, 0x97", for_now=True)
        now += 1.0
    spool.close()
    longest = max(later - earlier for earlier, later in pairwise(attempts))
    assert (longest > 300.0) if rare else (longest <= RETRY_REFUSED_S + 1.0)
