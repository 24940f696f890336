"""The clock of a test's database: advanced by the test, followed by every worker and client on it.

It moves no process's own clock. The invariant: only what waits for a time notices; the leases of live workers go along.
"""

from __future__ import annotations

from flowgen.core.durations import Duration, as_timedelta

__all__ = ["Clock"]


class Clock:
    """`flowgen_clock`: the time of one database, ahead of the real one by what it was advanced."""

    def __init__(self, url: str, schema: str = "flowgen") -> None:
        self._url = url
        self._schema = schema
        self._ahead = 0.0

    def advance(self, duration: Duration) -> None:
        """Let so much time pass at once: a timedelta, a number of seconds or a string such as "1h30m".

        Sleeps, deadlines, waits between attempts and schedules that come due by it are noticed by the workers within
        their `poll`. Raises DefinitionError for what is no duration.
        """
        from flowgen.postgres import database, notifications
        from flowgen.postgres.offset_clock import offset_clock

        self._ahead += as_timedelta(duration, what="advance()").total_seconds()
        schema = database.Schema(self._schema)
        conn = database.connect(self._url)
        try:
            offset_clock(conn, schema, self._ahead, keep_leases=True)
            database.run(conn, notifications.notify(schema), schema)
        finally:
            conn.close()
