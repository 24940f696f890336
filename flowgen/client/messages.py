"""Messages to runs, as plans: a signal, and what completes or fails a token.

Each is one statement that is never sent twice, as a message whose answer was lost may be there. The invariant: what is
sent on a connection that the caller lends is there if and only if the caller's transaction commits.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from flowgen.client import results
from flowgen.client.plans import Plan, ask
from flowgen.client.queries import RunId, candidates
from flowgen.core import codec, tokens
from flowgen.core.commands import Token
from flowgen.core.entries import MessageKind
from flowgen.core.failures import failure_from, failure_to_json
from flowgen.core.names import check_name
from flowgen.core.sealing import Seal
from flowgen.core.settings import Settings
from flowgen.core.states import public
from flowgen.errors import DefinitionError, Failure, FlowgenError, OutcomeError, TokenNotFound, TokenUsed
from flowgen.postgres import messages

__all__ = ["complete", "fail", "signal"]

logger = logging.getLogger("flowgen")

_REFUSED: Final = {
    "again": "it was used before, and a token can be used once",
    "late": "its time has passed",
    "over": "the run that made it has ended",
}


def signal(run_id: RunId, name: str, payload: object, settings: Settings, seal: Seal | None) -> Plan[None]:
    """Raises RunNotFound, FlowgenError for a run that has ended, DefinitionError, CodecError."""
    key = check_name(name, "the name of a signal")
    text = _stored(payload, f"the payload of the signal {key}", settings)
    if seal is not None:
        text = seal.closed(text, f"the payload of the signal {key}")
    to = candidates(settings.schema, run_id)
    posted = yield from ask(lambda: messages.post(to, MessageKind.SIGNAL, key, text), again=False)
    if posted is None:
        raise results.no_run(settings.schema, run_id)
    if not posted.told:
        status = public(posted.status)
        raise FlowgenError(f"run {run_id} ({posted.name}) is {status}: it cannot be sent the signal {key!r} any more")


def complete(token: str | Token[Any], value: object, settings: Settings, seal: Seal | None) -> Plan[None]:
    """Raises TokenNotFound, TokenUsed, CodecError."""
    text = _stored(value, "the value of the token", settings)
    yield from _use(token, tokens.completed(text), seal)


def fail(token: str | Token[Any], error: str | BaseException | Failure, seal: Seal | None) -> Plan[None]:
    """Raises TokenNotFound, TokenUsed, DefinitionError for what is no error."""
    yield from _use(token, tokens.failed(failure_to_json(_failure(error))), seal)


def _stored(value: object, what: str, settings: Settings) -> str:
    text = codec.encode(value, what=what)
    if codec.check_size(text, what=what, limit=settings.max_payload):
        logger.warning("%s", codec.size_warning(text, what))
    return text


def _failure(error: object) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, OutcomeError):
        return error.failure
    if isinstance(error, BaseException):
        return failure_from(error)
    if isinstance(error, str) and error.strip():
        return Failure("Failure", error)
    raise DefinitionError(f"a token is failed with an exception, a Failure or some words, not with {error!r}")


def _use(token: object, payload: str, seal: Seal | None) -> Plan[None]:
    if not isinstance(token, str | Token):
        raise DefinitionError(f"a completion token is a string, or a Token, not a {type(token).__name__}")
    text = str(token)
    if seal is not None:
        payload = seal.closed(payload, "what the token is told")
    use = yield from ask(lambda: messages.use_token(text, payload), again=False)
    if use == "unknown":
        raise TokenNotFound("this is no completion token of this database")
    if use != "used":
        raise TokenUsed(f"this completion token cannot be used: {_REFUSED[use]}")
