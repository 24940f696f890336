"""Import a long file page by page. Killed at any moment, it goes on with the page that it was at.

The worker: `python examples/import_pages.py`. A run, from elsewhere: `client.start(import_file, "/var/log/syslog")`.
"""

from itertools import islice
from pathlib import Path

import flowgen
from flowgen import Checkpoint, Context, Flow, Step, task, workflow

LINES_PER_PAGE = 1000


@task
def count_pages(path: str) -> int:
    with Path(path).open() as file:
        lines = sum(1 for _ in file)
    return -(-lines // LINES_PER_PAGE)


@task
def import_page(path: str, page: int) -> int:
    """Import one page and return its number of words. After a crash a page may come twice, so write with an upsert."""
    with Path(path).open() as file:
        lines = islice(file, page * LINES_PER_PAGE, (page + 1) * LINES_PER_PAGE)
        return sum(len(line.split()) for line in lines)


@workflow
def import_file(ctx: Context, path: str) -> Flow[int]:
    pages = yield from Step(count_pages, path)  # before the checkpoint is read: once in the life of the run
    words: int = ctx.accumulated_results or 0
    for page in range(ctx.checkpoint_cursor or 0, pages):
        words += yield from Step(import_page, path, page)
        yield Checkpoint(page + 1, items_processed=page + 1, accumulated_results=words)
    return words


if __name__ == "__main__":
    flowgen.run()
