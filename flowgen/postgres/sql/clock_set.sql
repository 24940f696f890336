-- Tests only: set by how much the clock is off.
-- Locks: the table's row. Index: none.
WITH gone AS (DELETE FROM {schema}.clock_offset RETURNING 1)
INSERT INTO {schema}.clock_offset (seconds) SELECT %(seconds)b::double precision
