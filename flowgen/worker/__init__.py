"""Runs workflows and tasks: the only room that loops, waits, spawns or calls a user's function.

The way of a run, which is the hot path; each line is a method, most of them in `runner.py`:

    Claimer.serve           claims a batch of ready runs while the one before is being taken
    Runner.accept, take     makes a live run of each claimed row, or goes on with a cached one
    Runner._go              drives its handler with what is durable now: `Execution.advance`, watched
    Runner._carry_out       warnings and aborts of the decision, then, in their order,
    Runner._commit          what it records goes to the run, its calls to the executor, its hang-up or end to its update
    Committer.mark, _take   a run with something to commit stands in line; then its entries get their indexes
    Committer.serve         flushes all that stands in line as one commit, and tells the flush before meanwhile
    Runner.committed        delivers the entries that are durable, with which `_go` begins again
    Executor.submit         calls a step's function, on a thread or as a task
    Runner._settled         makes an entry of what it returned or raised, and marks the run

Many runs go this way at once, so each line is done for a batch before the next: claims, flushes, results of threads.
Between two batches the event loop looks for what has arrived. Off the way come news of others' requests and messages
(`Runner.hear`), timers (`Runner._due`) and a stop (`Runner.stop_all`). Transactions, signals and children with an
author's id are committed on connections of their own (`transactor.py`, `in_turn.py`).
"""
