"""The client process: starts the runs of the plan, each at its time, and says of each what it was told.

`ok`: the run was accepted. `failed`: it was refused, there is none. `unknown`: nobody said, there may be one.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import flowgen
from flowgen.errors import DatabaseError, RunExists
from tests.chaos import flows
from tests.chaos.bodies import app
from tests.chaos.plan import Plan, Start


def main() -> None:
    url, plan_path, said_path = sys.argv[1:]
    assert flows.app is app
    plan = Plan.load(Path(plan_path))
    said = os.open(said_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    client = _connected(url)
    began = time.monotonic()
    for start in plan.starts:
        threading.Event().wait(max(0.0, began + start.at - time.monotonic()))
        os.write(said, (json.dumps(_started(client, start)) + "\n").encode())
    client.close()


def _connected(url: str) -> Any:
    while True:
        try:
            return flowgen.connect(url, app=app)
        except DatabaseError:
            threading.Event().wait(0.2)


def _started(client: Any, start: Start) -> dict[str, Any]:
    told: dict[str, Any] = {"n": start.n, "name": start.name, "id": start.id, "kind": start.kind}
    call = app.definition(start.name).call(n=start.n)
    if start.id is not None:
        call = call.opts(id=start.id)
    try:
        run = client.start(call)
    except RunExists:
        return {**told, "said": "failed"}
    except DatabaseError as error:
        return {**told, "said": "unknown" if error.transient else "failed", "error": str(error)}
    return {**told, "said": "ok", "run": str(run.uuid), "attached": run.attached}


if __name__ == "__main__":
    main()
