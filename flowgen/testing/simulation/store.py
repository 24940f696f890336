"""What the store guarantees, as plain facts in memory; no statement, no lock, no plan.

What happens to a row under which condition is proved of PostgreSQL by other tests. Here stands what they prove: a write
of a session whose lease is over, or of an old epoch, changes nothing; a claim gives a run to one session and counts up;
entries are only inserted, one an index; a flush is all or nothing for each run; whoever ends a run tells its parent and
all who wait for it in the same commit; time is the store's. It never waits and never fails by itself: what gets lost on
the way is the schedule's to say. The invariant: every method is one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import attrs

from flowgen.core import codec
from flowgen.core.entries import Entry, Message, MessageKind
from flowgen.core.states import FINAL, Request, Status
from flowgen.errors import DatabaseError, LeaseLost
from flowgen.postgres.children import Attached
from flowgen.postgres.entries import Stored
from flowgen.postgres.messages import Sent, SignalOut
from flowgen.postgres.rows import (
    Claimed,
    ClaimedRun,
    FlushBatch,
    FlushResult,
    Have,
    NewRun,
    Owned,
    Session,
)
from flowgen.testing.simulation.attaching import attach
from flowgen.testing.simulation.events import Events
from flowgen.testing.simulation.lease import Lease
from flowgen.testing.simulation.row import Row
from flowgen.testing.simulation.sending import send
from flowgen.testing.simulation.updating import ENDS, apply
from flowgen.testing.simulation.witness import Witness

__all__ = ["SUSPECT", "Store"]

SUSPECT = 2
"""Recoveries without progress from which a run is claimed alone."""

_RETRIED = (MessageKind.SIGNAL, MessageKind.TOKEN)
"""What a run that failed keeps for its retry."""
_NOBODY: frozenset[UUID] = frozenset()


class Store:
    """The rows of one database."""

    def __init__(self, now: datetime, lease: timedelta, witness: Witness) -> None:
        self.now = now
        self.lease = lease
        self.witness = witness
        self.runs: dict[UUID, Row] = {}
        self.leases: dict[UUID, Lease] = {}
        self.schedules: dict[tuple[str, str], str | None] = {}
        """By target and name; None: removed."""
        self.locked: Collection[UUID] = ()
        """Rows that somebody else has locked: a flush, a release and a cancel leave their runs out."""
        self.events = Events(self)
        self._letters = self._sessions = 0

    # sessions

    def register(self) -> Session:
        self._sessions += 1
        lease = Lease(UUID(int=self._sessions), self.now + self.lease)
        self.leases[lease.id] = lease
        return Session(lease.id, 0)

    def beat(self, session: Session) -> None:
        """A sign of life; one that comes too late changes nothing."""
        lease = self.leases[session.id]
        if not lease.dead:
            lease.until = self.now + self.lease

    def holds(self, session: Session) -> bool:
        """The fence: whether this session may write."""
        lease = self.leases[session.id]
        return lease.epoch == session.epoch and not lease.dead and lease.until > self.now

    def resolve_unknown(self, session: Session) -> Session | None:
        """Count the epoch up: what is under way is refused from now on."""
        lease = self.leases[session.id]
        if lease.dead or lease.epoch != session.epoch:
            return None
        lease.epoch += 1
        return Session(lease.id, lease.epoch)

    def leave(self, session: Session) -> None:
        """The session is over; what it owns is released by the next sweep."""
        lease = self.leases[session.id]
        lease.until = self.now - timedelta(microseconds=1)
        lease.excused = True

    def excuse(self, session: Session) -> None:
        """The process of a lost session has lived: what its end was counted for is taken back."""
        lease = self.leases[session.id]
        lease.until, lease.excused = min(lease.until, self.now - timedelta(microseconds=1)), True
        for row in lease.charged:
            if row.recoveries and row.status not in FINAL:
                row.recoveries -= 1
            self.witness.excused(row)
        lease.charged.clear()

    def expired(self) -> bool:
        """Whether a sweep would find a session whose lease is over."""
        return any(not lease.dead and lease.until < self.now for lease in self.leases.values())

    def reap(self) -> int:
        """Declare sessions dead whose lease is over, and release what they owned. How many runs."""
        count = 0
        for lease in self.leases.values():
            if not lease.dead and lease.until < self.now:
                lease.dead = True
                self.witness.died(lease.id)
        for row in self.runs.values():
            if row.status == Status.RUNNING and row.owner is not None and self.leases[row.owner].dead:
                self.lose(row)
                count += 1
        return count

    def lose(self, row: Row) -> None:
        """Its owner is dead: anybody may go on with it; a recovery without progress is counted."""
        lease = self.leases[row.owner]  # type: ignore[index]  # it runs
        self.witness.lost(row, charged=not lease.excused)
        last = row.last_index
        row.recoveries = 0 if last > row.recovered_index else row.recoveries
        row.recovered_index = last
        if not lease.excused:
            row.recoveries += 1
            lease.charged.append(row)
        self.move(row, Status.READY, None)

    # claims

    def in_order(self, rows: list[Row]) -> list[Row]:
        """Ready runs in the order of the queue."""
        return sorted(rows, key=lambda row: (-row.new.priority, row.due_at)) if len(rows) > 1 else rows

    def claim(self, session: Session, rows: Sequence[Row], have: Sequence[Have]) -> Claimed:
        """Give these runs, as far as they are still ready, with their histories and letters."""
        if not self.holds(session):
            return Claimed(runs=(), busy=False, fenced=True, now=self.now, next_due_at=None)
        known = {each.run_id: each for each in have}
        taken: list[ClaimedRun] = []
        for row in rows:
            if row.status != Status.READY:
                continue
            had = known.get(row.run_id)
            partial = had is not None and had.claim == row.claim
            row.claim += 1
            row.seen = row.mail
            row.started = True
            self.move(row, Status.RUNNING, session.id)
            after = had.index if had is not None and partial else -1
            taken.append(row.claimed(after, partial))
        return Claimed(runs=taken, busy=False, fenced=False, now=self.now, next_due_at=None)

    def owned(self, session: Session) -> Mapping[UUID, int]:
        return {
            row.run_id: row.claim
            for row in self.runs.values()
            if row.status == Status.RUNNING and row.owner == session.id
        }

    def release(self, session: Session, runs: Sequence[UUID] | None = None) -> int | None:
        """Give runs back; no recovery is counted. None: fenced."""
        if not self.holds(session):
            return None
        owned = self.owned(session)
        given = [each for each in (owned if runs is None else runs) if each in owned and each not in self.locked]
        for run_id in given:
            self.move(self.runs[run_id], Status.READY, None)
        return len(given)

    def news(self, session: Session, read: Mapping[UUID, int]) -> list[Owned]:
        """Requests for the runs of a session, and the letters that it has not read."""
        return [
            Owned(
                run_id=row.run_id,
                request=row.request,
                reason=row.reason,
                mail=row.mail,
                deadline=row.deadline,
                inbox=[each for each in row.inbox.values() if each.id > read.get(row.run_id, 0)]
                if row.mail > row.seen
                else (),
            )
            for row in self.runs.values()
            if row.owner == session.id and (row.request or row.mail > row.seen)
        ]

    # commits

    def flush(self, session: Session, batch: FlushBatch) -> FlushResult:
        if not self.holds(session):
            return FlushResult(fenced=True, skipped=_NOBODY, due={}, landed={}, now=self.now)
        skipped: set[UUID] = set()
        refused: set[UUID] = set()
        for update in batch.updates:
            row = self.runs[update.run_id]
            if update.run_id in self.locked or update.notify_parent in self.locked:
                skipped.add(update.run_id)
            elif row.owner == session.id and row.claim == update.claim:
                continue
            refused.add(update.run_id)
        entries = [(run_id, entry) for run_id, entry in batch.entries if run_id not in refused]
        due = self.insert(session, entries)
        for run_id, message in batch.consumed:
            if run_id not in refused:
                self.runs[run_id].inbox.pop(message, None)
        adopted = self._children(session, [child for child in batch.children if child.parent_id not in refused])
        for run_id, change in batch.schedules:
            if run_id not in refused:
                self.schedules[change.target, change.name] = change.cron
        self.events.carry_out([item for item in batch.effects if item[0] not in refused])
        updates = [update for update in batch.updates if update.run_id not in refused]
        # A run that hangs up hears of the ends that stand in the same commit.
        for update in sorted(updates, key=lambda each: each.action not in ENDS):
            apply(self, self.runs[update.run_id], update)
        landed = {update.run_id: int(self.runs[update.run_id].status) for update in updates}
        return FlushResult(
            fenced=False, skipped=frozenset(skipped), due=due, landed=landed, now=self.now, adopted=adopted
        )

    def insert(self, session: Session, entries: Iterable[tuple[UUID, Entry]]) -> dict[tuple[UUID, int], datetime]:
        """Entries are inserted and never changed. Raises DatabaseError when an index is taken."""
        for run_id, entry in entries:
            if entry.index in self.runs[run_id].indexes:
                raise DatabaseError(f"entry {entry.index} of {run_id} exists", sqlstate="23505")
        due: dict[tuple[UUID, int], datetime] = {}
        now = self.now
        for run_id, e in entries:
            due_at = e.due_at if e.delay is None else now + e.delay
            if due_at is not None:
                due[run_id, e.index] = due_at
            stored = Entry(
                e.index, e.kind, e.key, e.fingerprint, e.status, e.attempt, e.value, due_at, None, e.named, now
            )
            row = self.runs[run_id]
            row.add(stored)
            self.witness.wrote(row, stored, session.id)
        return due

    def finish_transaction(self, session: Session, run_id: UUID, entry: Entry, effect: Callable[[], None]) -> datetime:
        """The user's writes and the outcome, in one commit. Raises LeaseLost."""
        if not self.holds(session):
            raise LeaseLost(f"the lease of session {session.id} is over")
        self.insert(session, [(run_id, entry)])
        effect()
        return self.now

    def read_back(self, run_ids: Iterable[UUID]) -> Mapping[UUID, Stored]:
        rows = [self.runs[run_id] for run_id in run_ids]
        return {row.run_id: Stored(int(row.status), row.owner, row.claim, row.last_index) for row in rows}

    def page(self, run_id: UUID, base: int, prologue: int, after: int, limit: int, max_bytes: int) -> Sequence[Entry]:
        after = max(after, self.runs[run_id].floor - 1)
        return [
            attrs.evolve(entry)
            for entry in self.runs[run_id].entries
            if entry.index > after and (entry.index < prologue or entry.index >= base or entry.named)
        ][:limit]

    def end(self, row: Row, status: Status) -> None:
        """A run is over: who waits for it is told in the same commit."""
        row.request, row.due_at = 0, None
        row.cascade = status != Status.COMPLETED and any(self.live_children(row))
        self.move(row, status, None)
        self.tell_all(row, status)
        kept = _RETRIED if status == Status.FAILED else ()
        row.inbox = {number: each for number, each in row.inbox.items() if each.kind in kept}
        row.waiters.clear()

    def tell_all(self, row: Row, status: Status) -> None:
        """The parent, and whoever else waits."""
        payload, urgent = row.letter(status), status != Status.COMPLETED
        if row.new.parent_id is not None and row.new.parent_key is not None:
            self.tell(row.new.parent_id, row.new.parent_key, payload, urgent=urgent)
        for waiting_id, key in row.waiters:
            self.tell(waiting_id, key, payload, urgent=urgent)

    def tell(self, run_id: UUID, key: str, payload: str, *, urgent: bool, kind: int = MessageKind.CHILD) -> None:
        """A letter for a run, which wakes it when that is worth while."""
        row = self.runs.get(run_id)
        if row is None or row.status in FINAL:
            return
        self._letters += 1
        row.inbox[self._letters] = Message(self._letters, kind, key, payload, self.now)
        row.mail += 1
        if row.status == Status.WAITING and (urgent or row.mail >= row.wake_at_mail):
            self.wake(row)

    def wake(self, row: Row) -> None:
        row.due_at = self.now
        self.move(row, Status.READY, None)

    # children

    def start(self, new: NewRun) -> Row:
        """A new run, of a client or of a parent."""
        begin = new.at if new.at is not None else self.now + (new.delay or timedelta(0))
        row = Row(new, self.now, due_at=max(begin, self.now))
        row.deadline = None if new.deadline is None else self.now + new.deadline
        row.status = Status.DELAYED if begin > self.now else Status.READY
        self.runs[new.run_id] = row
        return row

    def _children(self, session: Session, children: Sequence[NewRun]) -> frozenset[UUID]:
        adopted: set[UUID] = set()
        for child in children:
            if child.run_id in self.runs:
                continue
            row = self.start(child)
            if child.owned and row.status == Status.READY:
                row.claim, row.started = 1, True
                self.move(row, Status.RUNNING, session.id)
                adopted.add(child.run_id)
        return frozenset(adopted)

    def attach_child(
        self, session: Session, claim: int, child: NewRun, entries: Sequence[Entry], wait: bool, blocks: bool
    ) -> Attached:
        return attach(self, session, claim, child, entries, wait=wait, blocks=blocks)

    def send_signal(self, session: Session, claim: int, signal: SignalOut, entries: Sequence[Entry]) -> Sent:
        return send(self, session, claim, signal, entries)

    def live_children(self, row: Row) -> Iterable[Row]:
        return (
            child
            for child in self.runs.values()
            if child.new.parent_id == row.run_id and child.status not in FINAL and not child.new.detached
        )

    # what others ask of runs

    def cancel_runs(self, run_ids: Iterable[UUID], reason: str, parent: UUID | None = None) -> int:
        """What has not begun ends here, the others are asked."""
        changed = 0
        for run_id in run_ids:
            row = self.runs.get(run_id)
            if row is None or row.status in FINAL or row.request == Request.CANCEL:
                continue
            if parent is not None and row.new.parent_id != parent:
                continue
            changed += 1
            if run_id in self.locked:
                continue
            if not row.started:
                row.error = codec.encode({"reason": reason})
                self.end(row, Status.CANCELLED)
                continue
            row.request, row.reason = Request.CANCEL, reason
            if row.status != Status.RUNNING:
                self.wake(row)
        return changed

    # time

    def promote(self) -> None:
        """What waits for a time that has come is ready."""
        for row in self.runs.values():
            if row.status in (Status.WAITING, Status.DELAYED) and row.due_at is not None and row.due_at <= self.now:
                self.move(row, Status.READY, None)

    def move(self, row: Row, status: Status, owner: UUID | None) -> None:
        """Every change of a status goes this way."""
        self.witness.moved(row, status, owner)
        row.status, row.owner = status, owner
