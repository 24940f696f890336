"""A worker that outlives the loss of its lease: its runs are not charged for it."""

from __future__ import annotations

import threading

import flowgen
from flowgen import App, Flow, Step
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.proxy import Proxy
from tests.waiting import eventually


def test_outages_longer_than_the_lease_make_no_suspect_of_what_was_live(
    flowgen_server_url: str, flowgen_database: str, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    """Another worker reaps meanwhile, and the first comes back after it, three times."""
    app, calls = App(), 0
    go, begun = threading.Event(), threading.Event()

    def step() -> int:
        nonlocal calls
        calls += 1
        begun.set()
        go.wait(60)
        return 1

    @app.workflow
    def one() -> Flow[int]:
        return (yield from Step(step))

    run = flowgen_client.start(one)
    flowgen_worker(App(), lease=0.8, poll=0.1)
    with Proxy(flowgen_server_url) as proxy:
        settings = flowgen.Settings(lease=0.8, poll=0.1, grace=1)
        with flowgen.worker(proxy.url(flowgen_database), app=app, settings=settings, concurrency=8):
            for outage in range(3):
                assert begun.wait(20), outage
                begun.clear()
                proxy.refuse()
                proxy.reset()
                eventually(lambda: run.refresh().status == "pending", timeout=20)
                proxy.accept()
            assert begun.wait(20)
            eventually(lambda: run.refresh().recoveries == 0)
            go.set()
            assert run.result(timeout=20) == 1
    assert calls == 4
