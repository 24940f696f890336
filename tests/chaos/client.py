"""The client process: starts the runs of the plan, each at its time, cancels some, and says of each what it was told.

`ok`: the run was accepted. `failed`: it was refused, there is none. `unknown`: nobody said, there may be one.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

import flowgen
from flowgen import Settings
from flowgen.errors import DatabaseError, FlowgenError, RunExists
from tests.chaos import more_flows, outside
from tests.chaos.bodies import app
from tests.chaos.expected import LARGEST, verb_of
from tests.chaos.plan import Plan, Start


class Client:
    """What is done in turn, and what was said of it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._runs: dict[int, str] = {}
        while True:
            try:
                self._client = flowgen.connect(url, app=app, settings=Settings(max_payload=LARGEST))
                return
            except DatabaseError:
                threading.Event().wait(0.2)

    def do(self, start: Start) -> dict[str, Any]:
        """One thing, and what came of it."""
        told: dict[str, Any] = {"n": start.n, "name": start.name, "id": start.id, "kind": start.kind}
        if start.kind == "cancel":
            return {**told, **self._changed(start, self._client.cancel)}
        if start.kind == "mend":
            return {**told, **self._changed(start, self._mend(start.n))}
        if start.kind == "sql":
            return {**told, **self._started_by_sql(start)}
        call = app.definition(start.name).call(n=start.n)
        if start.id is not None:
            call = call.opts(id=start.id)
        try:
            run = self._client.start(call)
        except RunExists:
            return {**told, "said": "failed"}
        except DatabaseError as error:
            return {**told, "said": "unknown" if error.transient else "failed", "error": str(error)}
        self._runs[start.n] = str(run.uuid)
        return {**told, "said": "ok", "run": str(run.uuid), "attached": run.attached}

    def _mend(self, n: int) -> Callable[[str], object]:
        return lambda run: outside.decide(self._client, run, n, verb_of(n))

    def _changed(self, start: Start, change: Callable[[str], object]) -> dict[str, Any]:
        run = self._runs.get(start.n)
        if run is None:
            return {"said": "failed"}
        try:
            change(run)
        except DatabaseError as error:
            return {"said": "unknown", "run": run, "error": str(error)}
        except psycopg.OperationalError as error:
            return {"said": "failed", "run": run, "error": str(error)}
        except FlowgenError as error:
            return {"said": "failed", "run": run, "error": str(error)}
        return {"said": "ok", "run": run}

    def _started_by_sql(self, start: Start) -> dict[str, Any]:
        given = json.dumps({"n": start.n, "when": "no date"})
        try:
            with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as conn:
                row = conn.execute("SELECT flowgen.start(%s, %s::json)", (start.name, given)).fetchone()
        except psycopg.OperationalError as error:
            return {"said": "unknown", "error": str(error)}
        assert row is not None
        return {"said": "ok", "run": row[0]}

    def close(self) -> None:
        self._client.close()


def main() -> None:
    url, plan_path, said_path = sys.argv[1:]
    assert more_flows.app is app
    plan = Plan.load(Path(plan_path))
    client = Client(url)
    said = os.open(said_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    began = time.monotonic()
    for start in plan.starts:
        threading.Event().wait(max(0.0, began + start.at - time.monotonic()))
        os.write(said, (json.dumps(client.do(start)) + "\n").encode())
    client.close()


if __name__ == "__main__":
    main()
