-- Requests, and runs with mail since their claim, among the running runs of a session; with what is new in their inbox.
-- Locks: none. Index: run_news, inbox_pkey.
SELECT run_id, request, reason, mail, deadline, inbox FROM {schema}.news(%(session)b, %(runs)b, %(read)b)
