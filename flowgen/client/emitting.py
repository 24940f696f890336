"""Emitting events: what is sent, and who is told that there is something to look at.

The invariant: the event's id is made before anything is sent, so an event whose answer was lost can be sent again.
"""

from __future__ import annotations

import logging
from uuid import UUID

import attrs

from flowgen.client.clock import new_uuid
from flowgen.client.plans import Do, Plan, ask
from flowgen.core import codec
from flowgen.core.inputs import triggered_input
from flowgen.core.names import check_name
from flowgen.core.sealing import Seal
from flowgen.core.settings import Settings
from flowgen.errors import DatabaseError
from flowgen.postgres import events, notifications
from flowgen.postgres.database import Schema
from flowgen.postgres.effects import Emission

__all__ = ["emit"]

logger = logging.getLogger("flowgen")


def emit(name: str, payload: object, settings: Settings, schema: Schema, seal: Seal | None, *, own: bool) -> Plan[UUID]:
    """Insert an event; its id. `own` is False on a connection that the caller lends.

    Raises DefinitionError, CodecError.
    """
    text = codec.encode(payload, what=f"the payload of the event {check_name(name, 'the name of an event')}")
    what = f"the payload of the event {name}"
    if codec.check_size(text, what=what, limit=settings.max_payload):
        logger.warning("%s", codec.size_warning(text, what))
    event = Emission(event_id=new_uuid(), name=name, payload=text, input=triggered_input(text))
    if seal is not None:
        event = attrs.evolve(event, payload=seal.closed(text, what), input=seal.closed(event.input, what))
    yield from ask(lambda: events.emit([event]), again=own)
    try:
        yield Do(lambda: notifications.notify(schema, notifications.EVENTS))
    except DatabaseError:
        if not own:  # the caller's transaction is aborted now, and has to know
            raise
    return event.event_id
