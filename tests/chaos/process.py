"""A worker process: `python -m tests.chaos.process URL LEASE PROCESSES`, an ordinary `flowgen.run`."""

from __future__ import annotations

import logging
import os
import sys

import flowgen
from flowgen import Settings
from tests.chaos import flows
from tests.chaos.bodies import app


def main() -> None:
    url, lease, processes = sys.argv[1:]
    assert flows.app is app
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    flowgen.run(url, app=app, settings=Settings.from_env(os.environ, lease=float(lease)), processes=int(processes))


if __name__ == "__main__":
    main()
