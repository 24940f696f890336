"""Checkpoint: bare it is an outcome like others; with data it saves progress and closes the segment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from flowgen.core import codec
from flowgen.core.branches import Leaf, remembered
from flowgen.core.commands import Checkpoint
from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.semantics.asking import Asking, outcome
from flowgen.errors import CodecError, DefinitionError

__all__ = ["IDIOM", "ask", "prepare"]

IDIOM = """\
Read the checkpoint first, so that a resumed handler knows where to go on:

    cursor = ctx.checkpoint_cursor or 0
    for page in range(cursor, pages):
        yield Step(load_page, page)
        yield Checkpoint(page + 1)
"""


def prepare(
    command: Checkpoint,
    *,
    in_branch: bool,
    prologue: int | None,
    cancelled: bool,
    heard: Mapping[str, datetime] | None,
    lost: Collection[str],
) -> str | None:
    """The data as JSON; None for a bare one. Raises DefinitionError, with the idiom, where a resume could not use it.

    In a run that is being cancelled it is a bare one: nothing resumes from there, and what is recorded of the
    cancellation stays in its segment.
    """
    if not command.has_data or cancelled:
        return None
    if in_branch:
        raise DefinitionError(
            "a Checkpoint with data stands inside a branch or scope; yield it from the handler itself"
        )
    if prologue is None:
        raise DefinitionError(
            "a Checkpoint with data in a handler that has not read its checkpoint: after a restart it would begin "
            "again from the start, with the steps before the checkpoint forgotten. " + IDIOM
        )
    saved = [command.cursor, command.items_processed or 0, command.accumulated_results]
    if heard or lost:
        saved.append(remembered(heard or {}))
    if lost:
        saved.append(sorted(lost))
    try:
        return codec.encode(saved)
    except CodecError:
        for name in ("cursor", "accumulated_results"):  # the error that names what the author gave
            codec.encode(getattr(command, name), what=f"the {name} of the checkpoint")
        raise


def ask(leaf: Leaf, command: Checkpoint, asking: Asking) -> None:
    if leaf.text is None:
        asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, "null"))
        return
    asking.decision.checkpoint = asking.prologue
    asking.record(leaf, Entry(-1, EntryKind.CHECKPOINT, leaf.key, value=leaf.text))
