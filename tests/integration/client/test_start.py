"""What starting a run guarantees."""

from __future__ import annotations

import flowgen
from flowgen import Flow
from flowgen.client.sync import Client
from flowgen.core.states import RunStatus


def test_a_started_run_is_pending_and_can_be_read(client: Client, app: flowgen.App) -> None:
    @app.workflow
    def checkout(order_id: str, cents: int = 5) -> Flow[str]:
        yield from ()
        return order_id

    run = client.start(checkout.call("o-1").opts(id="order-o-1"))
    assert run.id == "order-o-1"
    assert run.status is RunStatus.PENDING
    assert client.get("order-o-1") == run
