-- What the agents of a worker would find to do.
-- Locks: none. Index: run_ready, run_suspect, run_held, run_cascade, run_future, schedule_due, event_new,
-- event_wait_fresh; all of time_window, which is small.
SELECT at, lost, ready, suspect, held, cascades, former, events, closed, next_due_at, next_tick_at FROM {schema}.care()
