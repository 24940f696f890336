"""`client.audit`: who decided what about a run, when and why.

The invariant: an item is written in the commit of what was decided, and is never changed; what changes nothing leaves
none. That a run could not carry it out any more is said by its history and its failure. What a verb does to descendants
is an item of the run that it was called for, and of no other.
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
    """Of a command: retry, skip, complete. Of the run: retry, accept, cancel, pause, resume, set_deadline."""
    subject: str | None
    """The command's key; None: the whole run."""
    who: str | None
    """`by=`; None: it was not said."""
    reason: str | None
