"""Book a trip: two bookings at once, a payment that is a run of its own, an entry in the books that is made once.

The table: `create table ledger (receipt text primary key, cents int not null)`, in the database of flowgen.
The worker: `python examples/trip.py`. A run, from elsewhere: `client.start(book_trip, "Ada", "Lisbon", cents=90_000)`.
"""

from dataclasses import dataclass
from typing import Any

from psycopg import Connection

import flowgen
from flowgen import ChildFailed, Flow, Gather, Invoke, PermanentError, Retry, Step, Transaction, task, workflow


@dataclass
class Trip:
    flight: str
    hotel: str
    receipt: str


@task(retry=Retry(5, initial="2s"))
async def book_flight(traveller: str, city: str) -> str:
    return f"flight of {traveller} to {city}"


@task(retry=Retry(5, initial="2s"))
async def book_hotel(traveller: str, city: str) -> str:
    return f"hotel of {traveller} in {city}"


@task
async def cancel(booking: str) -> None:
    print(f"cancelled: {booking}")


@task
async def charge_card(traveller: str, cents: int) -> str:
    if cents > 500_000:
        raise PermanentError(f"the card of {traveller} is good for 5000.00")
    return f"{traveller} paid {cents / 100:.2f}"


def enter(conn: Connection[Any], receipt: str, cents: int) -> None:
    """Exactly once: these writes and the fact that they were made are one commit."""
    conn.execute("insert into ledger (receipt, cents) values (%s, %s)", (receipt, cents))


@workflow
def pay(traveller: str, cents: int) -> Flow[str]:
    receipt = yield from Step(charge_card, traveller, cents)
    yield Transaction(enter, receipt, cents)
    return receipt


@workflow
def book_trip(traveller: str, city: str, cents: int) -> Flow[Trip]:
    flight, hotel = yield from Gather(Step(book_flight, traveller, city), Step(book_hotel, traveller, city))
    try:
        receipt = yield from Invoke(pay, traveller, cents)
    except ChildFailed:
        yield Gather(Step(cancel, flight), Step(cancel, hotel))
        raise
    return Trip(flight, hotel, receipt)


if __name__ == "__main__":
    flowgen.run()
