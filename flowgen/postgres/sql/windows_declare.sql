-- The time windows of some definitions, given as JSON.
-- Locks: rows of time_window in the order of name and number. Index: time_window_pkey.
SELECT {schema}.declare_windows(%(names)s::text[], %(windows)s::json)
