"""A proxy between programs and PostgreSQL whose network can be made bad while it runs.

    with Proxy(server_url) as proxy:
        connect(proxy.url(database_url))
        proxy.blackhole("flowgen heartbeat")      # of connections with this application_name (`fnmatch` patterns)
        loss = proxy.lose_next_ack("flush")       # the server does it, the client never hears of it
        proxy.accepted                            # who connected, and when

`python -m tests.proxy URL` runs one in a process of its own: it prints `{"port": ...}`, then takes a line of JSON for
each call, such as `{"do": "blackhole", "to": "flowgen heartbeat"}`, and answers each with a line.

It speaks no TLS: it declines it for the server, because it has to read the messages. It never changes a byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import itertools
import json
import random
import re
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Literal
from urllib.parse import quote

import attrs
from psycopg.conninfo import conninfo_to_dict

Mode = Literal["pass", "blackhole", "stall"]

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_PACKET = 16384


@attrs.frozen
class Accepted:
    """A connection that was made: its `application_name` ("" for a request to cancel) and monotonic seconds."""

    name: str
    at: float


@attrs.frozen
class Line:
    """What a line does to what is sent: seconds and bytes a second each way, and the share of packets that end it."""

    latency: float = 0.0
    bandwidth: float = 0.0
    resets: float = 0.0


@attrs.define(eq=False)
class Loss:
    """An answer that is to be lost; `happened` is set when it was, and `at` is that moment of the monotonic clock."""

    pattern: re.Pattern[str]
    to: str
    after: re.Pattern[str] | None = None
    happened: threading.Event = attrs.field(factory=threading.Event)
    at: float = 0.0
    text: str = ""

    def wait(self, timeout: float = 20) -> None:
        assert self.happened.wait(timeout), f"nobody sent a statement that matches {self.pattern.pattern!r}"


@attrs.define(eq=False)
class _Rule:
    to: str
    mode: Mode = "pass"
    line: Line = attrs.field(factory=Line)


class Proxy:
    """Listens on a port of 127.0.0.1 for the server of `url`, on a thread of its own, until the block ends."""

    def __init__(self, url: str, *, seed: int = 0) -> None:
        given = conninfo_to_dict(url)
        self._host = str(given.get("host") or given.get("hostaddr") or "127.0.0.1")
        self._server_port = int(str(given.get("port") or 5432))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._links: set[_Link] = set()
        self._rules: list[_Rule] = []
        self._losses: list[Loss] = []
        self._accepted: list[Accepted] = []
        self._random = random.Random(seed)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def port(self) -> int:
        return self._port

    def url(self, url: str) -> str:
        """The same user, password and database as `url`, by way of this proxy."""
        given = {key: quote(str(value), safe="") for key, value in conninfo_to_dict(url).items() if value}
        user = given.get("user", "postgres") + (f":{given['password']}" if "password" in given else "")
        return f"postgresql://{user}@127.0.0.1:{self._port}/{given.get('dbname', '')}"

    # --- what may be done to the connections, all of them or those with an application_name ---------------------------

    def pass_through(self, to: str = "*") -> None:
        """Let bytes pass, at full speed. A connection that lost bytes in a blackhole is reset: it cannot go on."""
        self._rule(_Rule(to))

    def blackhole(self, to: str = "*") -> None:
        """Swallow what is sent either way, also the end of a connection: both ends think that it stands."""
        self._rule(_Rule(to, "blackhole"))

    def blackhole_open(self, to: str = "*") -> int:
        """The same for the connections that are open now, until they end; how many. New ones are as before."""

        async def lose() -> int:
            chosen = [link for link in self._links if fnmatch.fnmatchcase(link.name, to)]
            for link in chosen:
                link.lost = True
            return len(chosen)

        lost: int = self._do(lose())
        return lost

    def stall(self, to: str = "*") -> None:
        """Keep what is sent either way until it may pass again."""
        self._rule(_Rule(to, "stall"))

    def line(self, to: str = "*", *, latency: float = 0, bandwidth: float = 0, resets: float = 0) -> None:
        """Seconds each way, bytes a second each way (0: no limit), and the share of packets at which it is reset."""
        self._rule(_Rule(to, line=Line(latency, bandwidth, resets)))

    def reset(self, to: str = "*") -> int:
        """End the open connections with a RST, now; how many these were. New ones are as before."""
        ended: int = self._do(self._reset(to))
        return ended

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        self._do(self._refuse())

    def accept(self) -> None:
        """Accept connections again, on the same port."""
        self._do(self._listen())

    def lose_next_ack(self, matching: str, to: str = "*", *, after: str | None = None) -> Loss:
        """Let the next request with a statement that matches be done, swallow its answer, and reset the connection.

        `matching` is searched without regard to case. Statements that are already prepared are known by their text.
        With `after`, only once a statement was sent that matches that.
        """
        flags = re.IGNORECASE | re.DOTALL
        loss = Loss(re.compile(matching, flags), to, None if after is None else re.compile(after, flags))

        async def add() -> None:
            self._losses.append(loss)

        self._do(add())
        return loss

    # --- what is to be seen -------------------------------------------------------------------------------------------

    @property
    def accepted(self) -> list[Accepted]:
        """Every connection so far that sent its first message, in order."""
        return list(self._accepted)

    @property
    def open(self) -> list[str]:
        """The application names of the connections that are open now."""
        return [link.name for link in list(self._links)]

    # --- inside, on the thread ----------------------------------------------------------------------------------------

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def _rule(self, rule: _Rule) -> None:
        async def add() -> None:
            if rule.to == "*":
                self._rules.clear()
            self._rules.append(rule)
            for link in list(self._links):
                link.changed()

        self._do(add())

    def rule(self, name: str) -> _Rule:
        """What holds for connections of this name: the last rule that names it."""
        return next((rule for rule in reversed(self._rules) if fnmatch.fnmatchcase(name, rule.to)), _Rule("*"))

    def loss(self, name: str, text: str) -> Loss | None:
        """The loss that was waiting for this statement, once."""
        for loss in self._losses:
            if not fnmatch.fnmatchcase(name, loss.to):
                continue
            if loss.after is not None:
                loss.after = None if loss.after.search(text) else loss.after
            elif loss.pattern.search(text):
                self._losses.remove(loss)
                loss.text = text
                return loss
        return None

    def noted(self, name: str) -> None:
        self._accepted.append(Accepted(name, time.monotonic()))

    def unlucky(self, share: float) -> bool:
        return share > 0 and self._random.random() < share

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._connected, "127.0.0.1", self._port, backlog=1000, reuse_address=True
            )
            self._port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end(self) -> None:
        await self._refuse()
        await self._reset("*")
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reset(self, to: str) -> int:
        chosen = [link for link in self._links if fnmatch.fnmatchcase(link.name, to)]
        for link in chosen:
            link.reset()
        return len(chosen)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.serve(self._dial)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            link.reset()
            self._links.discard(link)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._server_port}")
        return await asyncio.open_connection(self._host, self._server_port)


class _Link:
    """One connection of a client, and the one to the server that stands for it."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.name = ""
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._server: asyncio.StreamWriter | None = None
        self._change = asyncio.Event()
        self.lost = False
        self._damaged = False
        self._asks = _Messages()
        self._answers = _Messages()
        self._statements: dict[bytes, str] = {}
        self._asked = 1  # the server says once that it is ready before anything was asked
        self._answered = 0
        self._lost: deque[tuple[int, Loss]] = deque()

    def changed(self) -> None:
        """Another rule may hold now."""
        if self._damaged and self._mode == "pass":
            self.reset()
        self._change.set()
        self._change = asyncio.Event()

    def reset(self) -> None:
        """End both sides; the client gets a RST."""
        for writer in (self._writer, self._server):
            if writer is not None and not writer.transport.is_closing():
                if writer is self._writer:
                    found = writer.get_extra_info("socket")
                    with contextlib.suppress(OSError):
                        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def serve(
        self, dial: Callable[[], Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
    ) -> None:
        first = await self._first()
        if self._mode == "blackhole":
            self._damaged = True
        await self._until_other_than("blackhole")
        await self._until_other_than("stall")
        answers, self._server = await dial()
        self._server.write(first)
        done, rest = await asyncio.wait(
            {
                asyncio.create_task(self._pump(self._reader, self._server, self._ask)),
                asyncio.create_task(self._pump(answers, self._writer, self._answer)),
            },
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in rest:
            task.cancel()
        await asyncio.gather(*done, *rest, return_exceptions=True)

    async def _first(self) -> bytes:
        while True:
            head = await self._reader.readexactly(8)
            size, code = struct.unpack("!II", head)
            if code in {_SSL, _GSS}:
                self._writer.write(b"N")
                continue
            rest = await self._reader.readexactly(size - 8)
            if code != _CANCEL:
                words = rest.split(b"\0")
                named = dict(zip(words[::2], words[1::2], strict=False))
                self.name = named.get(b"application_name", b"").decode(errors="replace")
            self._proxy.noted(self.name)
            return head + rest

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Callable[[bytes], Iterator[bytes]]
    ) -> None:
        free_at = 0.0
        sent: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        sending = asyncio.create_task(self._deliver(sent, writer))
        try:
            while True:
                packet = await reader.read(_PACKET)
                rule = self._proxy.rule(self.name)
                if self._mode == "blackhole":
                    self._damaged = True
                    if packet:
                        continue
                    await self._until_other_than("blackhole")  # its end is not told
                if not packet or sending.done() or self._proxy.unlucky(rule.line.resets):
                    break
                for each in look(packet):
                    now = self._proxy._loop.time()
                    free_at = max(free_at, now)
                    if rule.line.bandwidth:
                        free_at += len(each) / rule.line.bandwidth
                    await sent.put((free_at + rule.line.latency, each))
            if not packet and not sending.done():
                await sent.put((free_at, b""))
                await sending
        except OSError:
            await self._until_other_than("blackhole")
        finally:
            sending.cancel()

    async def _deliver(self, sent: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, packet = await sent.get()
            await self._until_other_than("stall")
            await asyncio.sleep(max(0.0, due - self._proxy._loop.time()))
            if self._mode == "blackhole":
                self._damaged = True
                continue
            if not packet:
                return
            writer.write(packet)
            await writer.drain()

    @property
    def _mode(self) -> Mode:
        return "blackhole" if self.lost else self._proxy.rule(self.name).mode

    async def _until_other_than(self, mode: Mode) -> None:
        while self._mode == mode:
            await self._change.wait()

    # --- what is said -------------------------------------------------------------------------------------------------

    def _ask(self, packet: bytes) -> Iterator[bytes]:
        for kind, body in self._asks.of(packet):
            text = self._statement(kind, body)
            if text is not None:
                loss = self._proxy.loss(self.name, text)
                if loss is not None:
                    self._lost.append((self._asked, loss))
            if kind in b"QS":
                self._asked += 1
        yield packet

    def _statement(self, kind: bytes, body: bytes) -> str | None:
        if kind == b"Q":
            return body[:-1].decode(errors="replace")
        if kind == b"P":
            name, text = body.split(b"\0", 2)[:2]
            self._statements[name] = text.decode(errors="replace")
        elif kind == b"B":
            return self._statements.get(body.split(b"\0", 2)[1])
        return None

    def _answer(self, packet: bytes) -> Iterator[bytes]:
        # what an answer that is lost shares a packet with is lost too, unless it came before
        start = 0
        for end, (kind, _) in zip(self._answers.ends(packet), self._answers.of(packet), strict=True):
            if kind != b"Z":
                continue
            if self._lost and self._lost[0][0] == self._answered:
                self.reset()
                loss = self._lost.popleft()[1]
                loss.at = time.monotonic()
                loss.happened.set()
                return
            self._answered += 1
            yield packet[start:end]
            start = end
        if start < len(packet) and not (self._lost and self._lost[0][0] == self._answered):
            yield packet[start:]


class _Messages:
    """Finds the messages in a stream of packets."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, packet: bytes) -> list[tuple[bytes, bytes]]:
        """The messages that end in this packet: kind and body."""
        found = []
        data = self._rest + packet
        at = 0
        while len(data) - at >= 5:
            size = 1 + struct.unpack_from("!I", data, at + 1)[0]
            if len(data) - at < size:
                break
            found.append((data[at : at + 1], data[at + 5 : at + size]))
            at += size
        self._rest = data[at:]
        return found

    def ends(self, packet: bytes) -> list[int]:
        """Where in this packet its messages end; to be asked before `of`."""
        found = []
        kept = self._rest
        at = -len(kept)
        data = kept + packet
        while len(packet) - at >= 5:
            start = at + len(kept)
            at += 1 + struct.unpack_from("!I", data, start + 1)[0]
            if at > len(packet):
                break
            found.append(at)
        return found


def main() -> None:
    """Serve one proxy, told by lines of JSON on standard input, until it ends."""
    with Proxy(sys.argv[1]) as proxy:
        print(json.dumps({"port": proxy.port}), flush=True)
        losses: dict[int, Loss] = {}
        numbers = itertools.count(1)
        for line in sys.stdin:
            told = json.loads(line)
            what = told.pop("do")
            if what == "lost":
                answer: object = losses[told["loss"]].happened.is_set()
            elif what in {"accepted", "open"}:
                answer = [attrs.astuple(each) if what == "accepted" else each for each in getattr(proxy, what)]
            elif what == "lose_next_ack":
                answer = next(numbers)
                losses[answer] = proxy.lose_next_ack(**told)
            elif what in {"pass_through", "blackhole", "blackhole_open", "stall", "line", "reset", "refuse", "accept"}:
                answer = getattr(proxy, what)(**told)
            else:
                answer = f"unknown: {what}"
            print(json.dumps({"answer": answer}), flush=True)


if __name__ == "__main__":
    main()
