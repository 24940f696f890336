-- What completion tokens are signed with.
-- Locks: none. Index: secret_pkey.
SELECT value FROM {schema}.secret WHERE name = 'token'
