-- Which server and which timeline this connection talks to; an error on a standby.
-- Locks: none. Index: none.
SELECT {schema}.system_identifier(), {schema}.timeline(), {schema}.clock()
