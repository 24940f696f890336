-- Tests only: no sign of life is on its way while the clock is changed, else it would be too early by the change.
-- Locks: the worker table SHARE ROW EXCLUSIVE. Index: none.
LOCK TABLE {schema}.worker IN SHARE ROW EXCLUSIVE MODE
