"""Messages to runs: delivered whole, in the order of their commits, and whoever waits is ready at once."""

from __future__ import annotations

import hmac
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

from flowgen.core.entries import MessageKind
from flowgen.core.states import Request, Status
from flowgen.core.tokens import written
from flowgen.postgres import inbox, messages
from flowgen.postgres.rows import Letter, RunAction
from tests.integration.postgres.store import Store, change
from tests.waiting import eventually


def letter(run_id: UUID, payload: str = "1", key: str = "go") -> Letter:
    return Letter(run_id, MessageKind.SIGNAL, key, payload)


def test_a_waiting_run_is_ready_at_once_however_much_mail_it_waits_for(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    store.flush(session, updates=[change(item, RunAction.HANG_UP, wake_at_mail=1000)])
    assert store.status(item.run_id) == Status.WAITING
    assert store.run(inbox.deliver([letter(item.run_id)])) == {item.run_id: Status.WAITING}
    assert store.row(item.run_id, "status", "mail", "due_at IS NOT NULL") == (Status.READY, 1, True)
    assert [message.key for message in store.claimed(session, item.run_id).inbox] == ["go"]


def test_a_message_before_the_hang_up_keeps_the_run_awake(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    store.run(inbox.deliver([letter(item.run_id)]))
    (news,) = store.run(inbox.news(session))
    assert (news.mail, [message.payload for message in news.inbox]) == (1, ["1"])
    store.update(session, item, RunAction.HANG_UP, mail_read=0)
    assert store.status(item.run_id) == Status.READY


def test_news_tell_of_a_message_once_when_its_reader_says_what_it_has_read(store: Store) -> None:
    session = store.register()
    one, other, third = (store.claimed(session, store.start()).run_id for _ in range(3))
    store.run(inbox.deliver([letter(one, "1"), letter(other, "2"), letter(one, "3")]))
    first = {item.run_id: item.inbox for item in store.run(inbox.news(session))}
    read = {run_id: messages[-1].id for run_id, messages in first.items()}
    store.run(inbox.deliver([letter(third, "4"), letter(one, "5")]))
    second = store.run(inbox.news(session, read))
    found = {item.run_id: [message.payload for message in item.inbox] for item in second}
    assert found == {one: ["5"], other: [], third: ["4"]}
    assert {item.run_id: item.mail for item in second} == {one: 3, other: 1, third: 1}
    again = store.run(inbox.news(session, {one: read[one]}))
    assert {item.run_id: len(item.inbox) for item in again} == {one: 1, other: 1, third: 1}


def test_messages_stand_in_the_order_of_their_sending(store: Store) -> None:
    one, other = store.start(), store.start()
    store.run(inbox.deliver([letter(one, "1"), letter(other, "2"), letter(one, "3")]))
    store.run(inbox.deliver([letter(one, "4")]))
    assert [payload for _, payload in store.inbox(one)] == ["1", "3", "4"]
    assert [payload for _, payload in store.inbox(other)] == ["2"]
    assert store.row(one, "mail", "status") == (3, Status.READY)


def test_whoever_sends_first_to_a_run_is_read_first_whenever_the_others_commit(store: Store) -> None:
    run_id = store.start()
    first = store.connect(autocommit=False)
    store.run(inbox.deliver([letter(run_id, "1")]), first)
    second = store.connect(statement_timeout="100ms")
    found = store.sql(
        "SELECT status, told FROM {schema}.deliver(ARRAY[%s]::uuid[], ARRAY[2], ARRAY['go'], ARRAY['2'], false)",
        run_id,
        conn=second,
    )
    assert found == [(Status.READY, False)]
    first.commit()
    store.run(inbox.deliver([letter(run_id, "2")]), second)
    assert [payload for _, payload in store.inbox(run_id)] == ["1", "2"]


def test_a_run_that_has_ended_or_is_not_there_is_told_nothing(store: Store) -> None:
    session = store.register()
    ended = store.start()
    store.update(session, store.claimed(session, ended), RunAction.COMPLETE, output="1")
    live, nobody = store.start(), uuid4()
    found = store.run(inbox.deliver([letter(nobody), letter(ended), letter(live)]))
    assert found == {nobody: None, ended: Status.COMPLETED, live: Status.READY}
    assert store.one("SELECT count(*) FROM {schema}.inbox") == 1
    assert store.row(ended, "mail") == 0
    assert store.run(inbox.deliver([])) == {}


def test_a_run_that_stands_keeps_standing_with_the_message_in_its_inbox(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    store.sql("UPDATE {schema}.run SET request = %s WHERE run_id = %s", Request.PAUSE, item.run_id)
    store.update(session, item, RunAction.PAUSE)
    store.run(inbox.deliver([letter(item.run_id)]))
    assert store.row(item.run_id, "status", "mail") == (Status.PAUSED, 1)
    assert store.inbox(item.run_id) == [("go", "1")]


def test_the_database_and_a_worker_sign_alike(store: Store) -> None:
    secret = store.run(messages.token_secret())
    assert len(secret) == 32
    assert store.one("SELECT {schema}.token_mac(%s)", b"what is signed") == hmac.digest(
        secret, b"what is signed", "sha256"
    )


def test_a_token_is_used_once_while_its_run_lives_and_its_time_has_not_passed(store: Store) -> None:
    secret = store.run(messages.token_secret())
    run_id = store.start()
    text = written(secret, run_id, uuid4(), None)
    assert store.run(messages.use_token(text, "1")) == "used"
    assert store.run(messages.use_token(text, "2")) == "again"
    assert [payload for _, payload in store.inbox(run_id)] == ["1"]
    now = store.one("SELECT {schema}.clock()")
    assert store.run(messages.use_token(written(secret, run_id, uuid4(), now + timedelta(minutes=1)), "3")) == "used"
    assert store.run(messages.use_token(written(secret, run_id, uuid4(), now), "4")) == "late"
    assert store.run(messages.use_token(written(secret, uuid4(), uuid4(), None), "5")) == "over"
    store.sql("UPDATE {schema}.run SET status = 9, finished_at = now() WHERE run_id = %s", run_id)
    assert store.run(messages.use_token(written(secret, run_id, uuid4(), None), "6")) == "over"
    assert len(store.inbox(run_id)) == 2


def test_of_a_token_that_two_use_at_once_one_is_told_that_it_was_used(store: Store) -> None:
    run_id = store.start()
    text = written(store.run(messages.token_secret()), run_id, uuid4(), None)
    first, second = store.connect(autocommit=False), store.connect()
    assert store.run(messages.use_token(text, "1"), first) == "used"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.run, messages.use_token(text, "2"), second)
        pid = second.info.backend_pid
        eventually(lambda: store.one("SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", pid) > 0)
        first.commit()
        assert waiting.result(30) == "again"


def test_what_was_not_signed_here_is_unknown_whatever_is_changed_of_it(store: Store) -> None:
    run_id = store.start()
    good = written(store.run(messages.token_secret()), run_id, uuid4(), None)
    swapped = {place: good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :] for place in range(104)}
    forged = [*swapped.values(), written(bytes(32), run_id, uuid4(), None), "", good[:-1], good + "A", "x" * 104]
    for text in forged:
        assert store.run(messages.use_token(text, "1")) == "unknown", text
    assert store.inbox(run_id) == []
    assert store.run(messages.use_token(good, "1")) == "used"
