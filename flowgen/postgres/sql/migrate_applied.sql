-- A migration was applied, in the transaction that did.
-- Locks: none. Index: migration_pkey.
INSERT INTO {schema}.migration (version, name) VALUES (%(version)b, %(name)b)
