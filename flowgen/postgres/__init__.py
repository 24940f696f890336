"""The only room with SQL or psycopg: one statement per file in `sql/`, one module per table's noun."""
