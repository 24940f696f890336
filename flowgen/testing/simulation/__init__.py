"""The simulator behind `flowgen.testing.simulate`: the agents of real workers over facts in memory, in virtual time.

    plan.py         what is simulated
    choices.py      a schedule: ints, drawn from a seed or given
    world.py        the loop over events: which comes next; mishaps.py: what may go wrong at any moment
    worker.py       one virtual worker: the runner, committer, attacher and transactor of `flowgen.worker`, as they are
    loop.py         the event loop that those run on; it never waits
    threads.py      the threads, timers and the clock of a worker
    connection.py   the connection of a Transaction
    requests.py     what a worker asks of the store; server.py: how it goes astray on the way there and back
    calling.py      calls functions; functions.py: what a test scripts for them
    store.py        what the store guarantees, as plain facts: row.py, lease.py, attaching.py; clients.py: clients
    witness.py      watches each write, each call and each delivery
    audit.py        looks at what is left in the end
    schedules.py    runs schedules; shrinking.py: the smallest that still fails; verdict.py: judges them for a test

It reads no clock, draws from one seed and touches nothing outside of the process. The invariant: the same workflow,
seed and schedule give the same story.
"""
