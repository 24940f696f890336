"""Values that are kept whatever they are, or that rows hold and nobody can read."""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

import flowgen
from flowgen import App, Checkpoint, CodecError, Context, Flow, Invoke, RunFailed, Sleep, Start, Step, StepContext
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.core.codec import SIZE_WARNING, decode, encode
from flowgen.testing.workers import Workers
from tests.waiting import eventually

Db = psycopg.Connection[Any]
NUL = "a\0b\u2400c"


@pytest.mark.bad_input("B3", "B4")
def test_nul_survives_in_every_column_and_each_of_them_is_readable_in_sql(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    def gives(ctx: StepContext, value: Any) -> Any:
        ctx.progress(NUL, {NUL: NUL})  # type: ignore[arg-type]
        return {NUL: value}

    def fails() -> None:
        raise ValueError(NUL)

    @app.workflow
    def keeps(ctx: Context, value: str) -> Flow[Any]:
        saved = ctx.accumulated_results
        if saved is None:
            got = yield from Step(gives, value)
            yield Checkpoint({NUL: 1}, accumulated_results=got)
            saved = ctx.accumulated_results
        return [saved, ctx.checkpoint_cursor]

    @app.workflow
    def breaks() -> Flow[None]:
        yield Step(fails).opts(retry=flowgen.Retry(1))

    flowgen_worker(app, cache=0)
    run, broken = flowgen_client.start_many([keeps.call(NUL), breaks.call()])
    assert run.result(timeout=15) == [{NUL: NUL}, {NUL: 1}]
    with pytest.raises(RunFailed, match=r"a\\x00b\u2400c"):
        broken.result(timeout=15)
    columns = db.execute(
        "select input ->> 'value', output #>> '{0}', progress ->> 'done', error ->> 'message' from flowgen.run"
    ).fetchall()
    assert len(columns) == 2
    assert all("\0" not in (text or "") for row in columns for text in row)
    found = flowgen_client.get(run.id)
    assert found.input == {"value": NUL}
    assert db.execute("select value::json::text from flowgen.entry where value is not null").fetchall()


@pytest.mark.bad_input("B13")
def test_an_instant_comes_back_as_the_same_instant_whatever_its_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    twice = [datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1)]
    for value in (*twice, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)):
        back = decode(encode(value, datetime), datetime)
        assert back.astimezone(UTC) == value.astimezone(UTC)
        assert back.utcoffset() == value.utcoffset()
    first, second = (decode(encode(value, datetime), datetime) for value in twice)
    assert second - first == timedelta(hours=1)


@pytest.mark.bad_input("B14", "B22")
def test_rows_with_what_nobody_can_read_fail_or_stand_alone_and_lists_still_show_them(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    def number() -> int:
        return 1

    @app.task
    def takes(value: Any) -> Any:
        return value

    @app.workflow
    def reads() -> Flow[int]:
        n = yield from Step(number)
        yield Sleep(0.3)
        return n

    planted = {
        "deep": "[" * 5000 + "]" * 5000,
        "huge": "1e400",
        "digits": "1" * 5000,
        "surrogate": '"\\ud800"',
    }
    told = {
        "deep": "too deep",
        "huge": "the number 1e400 is beyond the range of float: store it as text",
        "digits": "Exceeds the limit",
    }
    runs = {name: flowgen_client.start(takes.call(name).opts(delay="1h")) for name in planted}
    for name, text in planted.items():
        db.execute(
            "update flowgen.run set input = %s, status = 0, due_at = now() where run_id = %s",
            ('{"value": ' + text + "}", runs[name].uuid),
        )
    sleeper, *others = flowgen_client.start_many([reads.call() for _ in range(5)])
    flowgen_worker(app, cache=0)
    eventually(lambda: sleeper.refresh().status == "waiting")
    db.execute("update flowgen.entry set value = '\"moved\"' where run_id = %s and key = 'number'", (sleeper.uuid,))
    for name, said in told.items():
        with pytest.raises(RunFailed) as failed:
            runs[name].result(timeout=15)
        assert "CodecError: the input of takes cannot be read" in str(failed.value)
        assert said in str(failed.value)
    with pytest.raises(RunFailed, match="lone surrogate"):
        runs["surrogate"].result(timeout=15)
    assert [run.result(timeout=15) for run in others] == [1] * 4
    eventually(lambda: sleeper.refresh().status == "parked")
    error = sleeper.refresh().error
    assert error is not None
    assert "the result of number cannot be read at $: found str, allowed: int" in str(error)
    assert len(flowgen_client.list(RunQuery(limit=50))) == 9
    assert {run.recoveries for run in flowgen_client.list(RunQuery(limit=50))} == {0}


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.bad_input("B23")
def test_a_pickle_that_is_planted_in_any_payload_runs_nothing(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, tmp_path: Path
) -> None:
    def pickled(name: str, protocol: int) -> str:
        data = pickle.dumps(Bomb(str(tmp_path / name)), protocol)
        return json.dumps(base64.b64encode(data).decode() if protocol > 0 else data.decode("ascii"))

    def given() -> bytes:
        return b""

    @app.task
    def takes(value: bytes, other: Any) -> int:
        return len(value)

    @app.workflow
    def reads(ctx: Context) -> Flow[list[Any]]:
        raw = yield from Step(given)
        yield Sleep(0.3)
        return [len(raw), ctx.input_data, ctx.trigger.payload]

    pickle.loads(pickle.dumps(Bomb(str(tmp_path / "proof"))))  # noqa: S301 - it would run, if anybody did this
    task = flowgen_client.start(takes.call(b"", 1).opts(delay="1h"))
    db.execute(
        "update flowgen.run set input = %s, trigger = %s, status = 0, due_at = now() where run_id = %s",
        (f'{{"value": {pickled("a", 4)}, "other": {pickled("b", 0)}}}', pickled("c", 4), task.uuid),
    )
    flow = flowgen_client.start(reads)
    flowgen_worker(app, cache=0)
    eventually(lambda: flow.refresh().status == "waiting")
    db.execute("update flowgen.entry set value = %s where run_id = %s and key = 'given'", (pickled("d", 4), flow.uuid))
    assert task.result(timeout=15) > 10
    assert flow.result(timeout=15)[0] > 10
    db.execute("update flowgen.run set error = %s, output = %s", (pickled("e", 4), pickled("f", 0)))
    for run in flowgen_client.list():
        flowgen_client.history(run.id)
    assert [each.name for each in tmp_path.iterdir()] == ["proof"]


@pytest.mark.bad_input("B16")
@pytest.mark.parametrize("evict", ["0", "1"], ids=["", "evicted"])
def test_a_payload_of_more_than_a_mebibyte_is_warned_of_and_one_over_the_limit_never_sent(
    app: App, flowgen_client: Client, flowgen_worker: Workers, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, evict: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("FLOWGEN_EVICT", evict)
    large = "x" * (2 * SIZE_WARNING)
    said: dict[str, str] = {}

    def gives(ctx: StepContext, size: int) -> str:
        ctx.progress("p" * size, None)  # type: ignore[arg-type]
        return "x" * size

    @app.task
    def takes(value: str) -> str:
        return value

    @app.workflow
    def passes() -> Flow[str]:
        value = yield from Step(gives, 2 * SIZE_WARNING)
        ref = yield from Start(takes, value)
        for name, command in (("result", Step(gives, 3 * SIZE_WARNING)), ("child", Invoke(takes, large + large))):
            try:
                yield command
            except (flowgen.StepFailed, CodecError) as error:
                said[name] = str(error)
        return ref.name + value

    limit = 3 * SIZE_WARNING
    flowgen_worker(app, max_payload=limit)
    with caplog.at_level(logging.WARNING):
        run = flowgen_client.start(passes)
        assert len(run.result(timeout=30)) > 2 * SIZE_WARNING
        flowgen_client.start(takes.call(large).opts(delay="1h"))
    size, child = limit + 2, 4 * SIZE_WARNING + len('{"value":""}')
    over = f"bytes of JSON, over the limit of {limit}: store it elsewhere and pass a reference, or raise max_payload"
    assert f"CodecError: the result of gives#2 is {size} {over}" in said["result"]
    assert said["child"] == f"what invoke takes stores is {child} {over}"
    for what in ("the result of gives", "the data of takes", "the result", "the input of takes"):
        assert f"{what} is 2.0 MiB of JSON: store it elsewhere and pass a reference" in caplog.text
    progress = size + len('{"done":,"total":null}')
    assert f"its progress cannot be stored: the progress is {progress} {over}" in caplog.text


@pytest.mark.bad_input("B13", "B49")
def test_the_farthest_sleep_stops_no_worker_whatever_the_time_zone_of_the_database(
    app: App, flowgen_database: str, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def sleeps(until: datetime) -> Flow[int]:
        yield Sleep(until=until)
        return 1

    first, last = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        db.execute(f"alter database {db.info.dbname} set timezone to '{zone}'".encode())
        worker = flowgen_worker(app, cache=0)
        with flowgen.connect(flowgen_database, app=app) as client:
            far = client.start_many([sleeps.call(last), sleeps.call(last).opts(at=last), sleeps.call(first)])
            eventually(lambda far=far: far[0].refresh().status == "waiting")
            assert far[2].result(timeout=10) == 1
            assert far[1].refresh().due_at == last
            client.cancel(far[0].id)
            eventually(lambda far=far: far[0].refresh().status == "cancelled")
        worker.stop()
