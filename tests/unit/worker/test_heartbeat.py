"""How long a lease is trusted that cannot be renewed."""

from __future__ import annotations

from uuid import UUID

from flowgen import Settings
from flowgen.postgres.database import Schema
from flowgen.postgres.rows import Session
from flowgen.worker.clock import monotonic
from flowgen.worker.heartbeat import Heartbeat
from tests.waiting import eventually


def heartbeat(lost: list[Session], session: Session, lease: float = 10) -> Heartbeat:
    return Heartbeat(
        "postgresql:///postgres?host=/nowhere",
        Schema("flowgen"),
        Settings(lease=lease),
        session=lambda: session,
        lost=lost.append,
        beaten=lambda now: None,
        notified=lambda events: None,
        no_room=lambda: None,
    )


def test_a_lease_is_not_trusted_to_its_end() -> None:
    lost: list[Session] = []
    session = Session(UUID(int=1), 1)
    beating = heartbeat(lost, session)
    beating.registered(monotonic() - 7.5)
    beating._doubt()
    assert lost == []
    beating.registered(monotonic() - 8.5)
    beating._doubt()
    assert lost == [session]


def test_a_new_session_is_not_doubted_for_what_became_of_the_last() -> None:
    lost: list[Session] = []
    beating = heartbeat(lost, Session(UUID(int=2), 1))
    beating.registered(monotonic() - 60)
    beating.registered(monotonic())
    beating._doubt()
    assert lost == []


def test_a_lease_that_cannot_be_renewed_is_given_up_before_its_end() -> None:
    lost: list[Session] = []
    for lease in (0.4, 0.8, 1.6):
        beating = heartbeat(lost, Session(UUID(int=3), 1), lease)
        began = monotonic()
        beating.registered(began)
        beating.start()
        eventually(lambda: lost, timeout=3, every=0.005)
        assert 0.8 * lease <= monotonic() - began < lease
        beating.stop()
        beating.join()
        lost.clear()
