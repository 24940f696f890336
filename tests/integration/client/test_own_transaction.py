"""What `conn=` guarantees: a run exists if and only if the caller's transaction commits."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

import flowgen
from flowgen import DatabaseError, DefinitionError, RunExists, RunNotFound
from flowgen.client.aio import connect_async
from flowgen.client.sync import Client

Checkout = flowgen.Workflow[..., Any, str]


@pytest.mark.bad_input("B53")
def test_the_run_is_there_when_the_transaction_commits_and_not_before(
    client: Client, checkout: Checkout, flowgen_database: str
) -> None:
    with psycopg.connect(flowgen_database) as conn:
        run = client.start(checkout.call("o").opts(id="x"), conn=conn)
        assert not run.attached
        with pytest.raises(RunNotFound):
            client.get("x")
        assert client.start(checkout.call("o").opts(id="x"), conn=conn).attached
        conn.commit()
        assert client.get("x") == run


@pytest.mark.bad_input("B53")
def test_the_run_is_gone_when_the_transaction_rolls_back(
    client: Client, checkout: Checkout, flowgen_database: str
) -> None:
    with psycopg.connect(flowgen_database) as conn:
        conn.execute("CREATE TABLE mine (n int)")
        client.start_many([checkout.call("o").opts(id="x"), checkout.call("p")], conn=conn)
        conn.rollback()
    assert client.count() == 0


@pytest.mark.bad_input("B53")
def test_a_savepoint_of_the_caller_decides_too(client: Client, checkout: Checkout, flowgen_database: str) -> None:
    with psycopg.connect(flowgen_database) as conn, conn.transaction():
        client.start(checkout.call("kept"), conn=conn)
        with conn.transaction(force_rollback=True):
            client.start(checkout.call("dropped"), conn=conn)
    assert [run.input for run in client.list()] == [{"order_id": "kept"}]


@pytest.mark.bad_input("B53")
def test_a_refused_start_leaves_the_callers_transaction_usable(
    client: Client, checkout: Checkout, flowgen_database: str
) -> None:
    client.start(checkout.call("o").opts(id="x"))
    with psycopg.connect(flowgen_database) as conn:
        with pytest.raises(RunExists):
            client.start(checkout.call("other").opts(id="x"), conn=conn)
        client.start(checkout.call("p"), conn=conn)
    assert client.count() == 2


@pytest.mark.bad_input("B53")
def test_the_callers_factories_adapters_and_autocommit_change_nothing(
    client: Client, checkout: Checkout, flowgen_database: str
) -> None:
    with psycopg.connect(
        flowgen_database, row_factory=dict_row, cursor_factory=psycopg.ClientCursor, autocommit=True
    ) as conn:
        runs = client.start_many([checkout.call("o").opts(id="x"), checkout.call("o").opts(id="x")], conn=conn)
        assert [run.attached for run in runs] == [False, True]
        assert client.get("x").uuid == runs[0].uuid


@pytest.mark.bad_input("B53")
def test_an_aborted_transaction_is_told_and_nothing_is_started(
    client: Client, checkout: Checkout, flowgen_database: str
) -> None:
    with psycopg.connect(flowgen_database) as conn:
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("SELECT FROM nowhere")
        with pytest.raises(DatabaseError, match="conn= is aborted by an earlier error: roll it back"):
            client.start(checkout.call("o"), conn=conn)
        conn.rollback()
    with pytest.raises(DatabaseError, match="closed"):
        client.start(checkout.call("o"), conn=conn)
    assert client.count() == 0


def test_what_is_no_connection_of_this_colour_is_refused(client: Client, checkout: Checkout) -> None:
    with pytest.raises(DefinitionError, match=r"conn= takes a psycopg.Connection, not a builtins.str"):
        client.start(checkout.call("o"), conn="postgresql://")  # type: ignore[call-overload]


def test_an_argument_named_conn_belongs_to_the_function(client: Client, app: flowgen.App) -> None:
    @app.task
    def dial(conn: str) -> str:
        return conn

    assert client.start(dial, conn="line 1").input == {"conn": "line 1"}


@pytest.mark.bad_input("B53")
def test_the_async_client_takes_an_async_connection(
    flowgen_database: str, app: flowgen.App, checkout: Checkout
) -> None:
    async def go() -> None:
        async with connect_async(flowgen_database, app=app) as client:
            async with await psycopg.AsyncConnection.connect(flowgen_database, row_factory=dict_row) as conn:
                run = await client.start(checkout.call("o").opts(id="x"), conn=conn)
                with pytest.raises(RunNotFound):
                    await client.get("x")
                await conn.commit()
                assert await client.get("x") == run
                await client.start(checkout.call("p"), conn=conn)
                await conn.rollback()
                assert await client.count() == 1
                with pytest.raises(psycopg.errors.UndefinedTable):
                    await conn.execute("SELECT FROM nowhere")
                with pytest.raises(DatabaseError, match="aborted"):
                    await client.start(checkout.call("o"), conn=conn)
            with pytest.raises(DefinitionError, match=r"takes a psycopg.AsyncConnection"):
                await client.start(checkout.call("o"), conn=object())  # type: ignore[call-overload]

    asyncio.run(go())
