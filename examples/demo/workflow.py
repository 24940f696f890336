"""Index the text files of this Python installation: which word is in which file, and how often.

`python -m examples.demo.workflow 2` is a worker of two supervised processes. Every command has a name of its own, which
its function also tells the witness; other than that nothing here knows that it will be killed.
"""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
from psycopg import Connection

import flowgen
from examples.demo import witness
from flowgen import Flow, Gather, Invoke, Retry, Sleep, Step, StepContext, Transaction, task, workflow

BATCH = 25
"""Files of one step."""


@attrs.frozen
class Report:
    files: int
    words: int
    copies: int
    """Files with the content of another one."""


def text_files(count: int) -> list[str]:
    """The first files of the standard library and of the installed packages; larger ones are data in disguise."""
    folders = [sysconfig.get_paths()[each] for each in ("stdlib", "purelib")]
    paths = [path for folder in folders for path in sorted(Path(folder).rglob("*.*"))]
    texts = [path for path in paths if path.suffix in (".py", ".txt", ".rst") and path.stat().st_size < 200_000]
    return [str(path) for path in dict.fromkeys(texts)][:count]


def words_of(file: str) -> dict[str, int]:
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    return Counter(re.findall(r"[a-z_]{3,30}", text.lower()))


@task
def find_files(count: int) -> list[str]:
    with witness.body("find-files"):
        return text_files(count)


def create_table(conn: Connection[Any]) -> None:
    """It has no key: were a batch written twice, its rows would be there twice."""
    with witness.body("create-table"):
        conn.execute("create schema demo")
        conn.execute("create table demo.posting (word text not null, file text not null, times int not null)")


@task(retry=Retry(5, initial="200ms"))
def ask_permission(ctx: StepContext) -> None:
    """A service that refuses two calls before it answers one."""
    with witness.body("ask-permission"):
        if ctx.attempt < 3:
            raise ConnectionError("the service is starting")


@task
def count_words(number: int, files: list[str]) -> dict[str, dict[str, int]]:
    with witness.body(f"count-{number}"):
        return {file: words_of(file) for file in files}


def write_words(conn: Connection[Any], number: int, words: dict[str, dict[str, int]]) -> int:
    """Exactly once: these rows, and the fact that they were written, are one commit."""
    with witness.body(f"write-{number}"):
        with conn.cursor().copy("copy demo.posting (word, file, times) from stdin") as rows:
            for file, counted in words.items():
                for word, times in counted.items():
                    rows.write_row((word, file, times))
        return sum(sum(counted.values()) for counted in words.values())


def index_batch(number: int, files: list[str]) -> Flow[int]:
    """One branch of the fan-out: words are counted, then written."""
    words = yield from Step(count_words, number, files).opts(name=f"count-{number}")
    return (yield from Transaction(write_words, number, words).opts(name=f"write-{number}"))


@task
def hash_files(number: int, files: list[str]) -> list[str]:
    with witness.body(f"hash-{number}"):
        return [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]


@workflow
def find_copies(batches: list[list[str]]) -> Flow[int]:
    """A run of its own, which any worker may take."""
    hashes = yield from Gather(*[Step(hash_files, n, each).opts(name=f"hash-{n}") for n, each in enumerate(batches)])
    counted = Counter(each for batch in hashes for each in batch)
    return sum(times for times in counted.values() if times > 1)


@workflow
def index_python(count: int) -> Flow[Report]:
    files = yield from Step(find_files, count).opts(name="find-files")
    batches = [files[first : first + BATCH] for first in range(0, len(files), BATCH)]
    yield Transaction(create_table).opts(name="create-table")
    yield Step(ask_permission).opts(name="ask-permission")
    words = yield from Gather(*[index_batch(n, batch) for n, batch in enumerate(batches)])
    yield Sleep(1)
    copies = yield from Invoke(find_copies, batches).opts(id="copies")
    return Report(files=len(files), words=sum(words), copies=copies)


if __name__ == "__main__":
    flowgen.run(processes=int(sys.argv[1]), concurrency=4)
