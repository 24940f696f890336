"""`client.audit`: who decided what about a run, when and why.

The invariant: an item is written in the commit of what was decided, and is never changed. That a run could not carry it
out any more is said by its history and its failure.
"""

from __future__ import annotations

from datetime import datetime

import attrs

__all__ = ["AuditItem"]


@attrs.frozen
class AuditItem:
    """One decision about a run."""

    at: datetime
    action: str
    """retry, skip or complete, of a command or (retry) of the whole run; accept."""
    subject: str | None
    """The command's key; None: the whole run."""
    who: str | None
    """`by=`; None: it was not said."""
    reason: str | None
