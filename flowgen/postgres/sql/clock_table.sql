-- Tests only: the table that a test's clock reads.
-- Locks: none that matter. Index: none.
CREATE TABLE IF NOT EXISTS {schema}.clock_offset (seconds double precision NOT NULL)
