-- Mark the transaction of a Transaction command: gone when the function ends the transaction by itself. The server ends
-- it when the process stops in the middle.
-- Locks: none. Index: none.
SELECT pg_catalog.set_config('flowgen.tx', %(token)b, true),
    pg_catalog.set_config('idle_in_transaction_session_timeout', %(idle)b, true)
