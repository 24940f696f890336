"""Settings: what a worker, a client or a command line is told about leases, limits and the schema.

Pure values: reads no environment (`from_env` takes a mapping) and no clock. The invariant: a `Settings` that exists is
consistent; every problem of a bad one is told at once, one line each.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import attrs

from flowgen.core.codec import Codec
from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.names import check_name, check_schema
from flowgen.errors import DefinitionError

__all__ = ["Settings"]

_PREFIX: Final = "FLOWGEN_"
# Variables that are read elsewhere, so that a setting misspelt is told from them.
_NOT_SETTINGS: Final = frozenset(
    {"FLOWGEN_URL", "FLOWGEN_TEST_URL", "FLOWGEN_EMBEDDED_IDLE", "FLOWGEN_FAILPOINTS", "FLOWGEN_EVICT"}
)
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_MIB: Final = 1024 * 1024
_LARGEST_PAYLOAD: Final = 256 * _MIB


@attrs.frozen(init=False)
class Settings:
    """What holds for one process. Durations are a timedelta, a number of seconds or a string such as "15s".

    Raises DefinitionError that names every problem, one line each.
    """

    lease: timedelta
    """How long a worker owns its runs after its last sign of life: the time until others take over from a dead one."""
    heartbeat: timedelta
    """Between two signs of life; a third of the lease unless given."""
    poll: timedelta
    """The longest wait of an idle worker between two looks at the queue."""
    grace: timedelta
    """How long a stopping worker lets functions that run come to their end."""
    cache: int
    """Waiting runs whose generator a worker keeps in memory; 0 keeps none. Changes speed only."""
    schema: str
    """The PostgreSQL schema that holds everything."""
    max_payload: int
    """Bytes of JSON that one input, result or outcome may have."""
    max_recoveries: int
    """After so many workers that died of one run, the run fails."""
    keep_events: timedelta
    """How long an event is kept for waits that begin after it: longer than any run works before it waits for one."""
    pooler: bool
    """A pooler in transaction mode stands before the server: no prepared statements, no LISTEN, no session state."""
    codec: Codec | None = attrs.field(
        eq=id, repr=lambda codec: repr(None if codec is None else getattr(codec, "name", "?"))
    )
    """Compresses or encrypts what is stored. Given in code only: no variable of the environment sets it."""

    def __init__(
        self,
        *,
        lease: Duration = "15s",
        heartbeat: Duration | None = None,
        poll: Duration = "1s",
        grace: Duration = "30s",
        cache: int = 1_000,
        schema: str = "flowgen",
        max_payload: int = 32 * _MIB,
        max_recoveries: int = 3,
        keep_events: Duration = "7d",
        pooler: bool = False,
        codec: Codec | None = None,
    ) -> None:
        problems: list[str] = []

        def check(read: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            try:
                return read(*args, **kwargs)
            except DefinitionError as error:
                problems.append(str(error))
                return None

        length = check(as_timedelta, lease, what="lease", positive=True)
        beat: Any = length / 3 if heartbeat is None and length is not None else None
        if heartbeat is not None:
            beat = check(as_timedelta, heartbeat, what="heartbeat", positive=True)
        if length is not None and beat is not None and beat >= length:
            problems.append(f"heartbeat is {beat}, lease is {length}: the heartbeat must be shorter than the lease")
        self.__attrs_init__(
            lease=length,
            heartbeat=beat,
            poll=check(as_timedelta, poll, what="poll", positive=True),
            grace=check(as_timedelta, grace, what="grace"),
            cache=check(_whole, cache, "cache", 0, 10_000_000),
            schema=check(check_schema, schema),
            max_payload=check(_whole, max_payload, "max_payload", 1, _LARGEST_PAYLOAD),
            max_recoveries=check(_whole, max_recoveries, "max_recoveries", 1, 1000),
            keep_events=check(as_timedelta, keep_events, what="keep_events"),
            pooler=check(_flag, pooler, "pooler"),
            codec=check(_codec, codec),
        )
        if problems:
            raise DefinitionError("\n".join(problems))

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **given: Any) -> Settings:
        """Settings of `FLOWGEN_LEASE`, `FLOWGEN_SCHEMA`, ... in `environ`; what is `given` wins over them.

        An empty variable counts as not set. A variable that looks like a misspelt setting is a problem too.
        """
        problems: list[str] = []
        names = {_PREFIX + each.name.upper(): each.name for each in attrs.fields(cls) if each.name != "codec"}
        values: dict[str, Any] = {}
        for variable in sorted(environ):
            text = environ[variable].strip()
            if variable in names and text and names[variable] not in given:
                try:
                    values[names[variable]] = _read(names[variable], text)
                except ValueError as error:
                    problems.append(f"{variable} is {text[:80]!r}: {error}")
            elif variable == "FLOWGEN_CODEC" and text:
                problems.append("FLOWGEN_CODEC is no setting: a codec is code, give it as Settings(codec=...)")
            elif variable.startswith(_PREFIX) and variable not in names and variable not in _NOT_SETTINGS:
                likely = difflib.get_close_matches(variable, names, n=1, cutoff=0.85)
                if likely:
                    problems.append(f"{variable} is not a setting: did you mean {likely[0]}?")
        try:
            settings = cls(**values, **given)
        except DefinitionError as error:
            raise DefinitionError("\n".join([*problems, str(error)])) from None
        if problems:
            raise DefinitionError("\n".join(problems))
        return settings


def _whole(value: object, what: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise DefinitionError(f"{what} is {value!r} of type {type(value).__name__}: give a whole number")
    if not least <= value <= most:
        raise DefinitionError(f"{what} is {value}: give {least} to {most}")
    return value


def _flag(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise DefinitionError(f"{what} is {value!r} of type {type(value).__name__}: give True or False")
    return value


def _codec(codec: Codec | None) -> Codec | None:
    if codec is None:
        return None
    name = check_name(getattr(codec, "name", None), "the name of a codec")
    if ":" in name:
        raise DefinitionError(f"the name of a codec {name!r} has a colon, which ends the name where it is stored")
    for verb in ("encode", "decode"):
        if not callable(getattr(codec, verb, None)):
            raise DefinitionError(f"the codec {name!r} has no method {verb}: give an object with name, encode, decode")
    return codec


def _read(name: str, text: str) -> Any:
    """A variable's text as what the setting takes. Raises ValueError that says what is allowed."""
    if name in ("cache", "max_payload", "max_recoveries"):
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ValueError("give a whole number")
        return int(text)
    if name == "pooler":
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ValueError("give true or false")
    if name == "schema":
        return text
    return _seconds(text)


def _seconds(text: str) -> Duration:
    try:
        return float(text)
    except ValueError:
        return text
