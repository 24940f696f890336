"""A worker process: `python -m tests.chaos.process URL SETTINGS PROCESSES`, an ordinary `flowgen.run`."""

from __future__ import annotations

import json
import logging
import os
import sys

import flowgen
from flowgen import Settings
from tests.chaos import more_flows
from tests.chaos.bodies import app

CONCURRENCY = 16


def main() -> None:
    url, settings, processes = sys.argv[1:]
    assert more_flows.app is app
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    chosen = Settings.from_env(os.environ, **json.loads(settings))
    flowgen.run(url, app=app, settings=chosen, processes=int(processes), concurrency=CONCURRENCY)


if __name__ == "__main__":
    main()
