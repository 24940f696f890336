-- Between two Transactions on one connection: nothing that a function set, locked, listened to or made for its session
-- is there for the next. Outside of a transaction.
-- Locks: none. Index: none.
DISCARD ALL
