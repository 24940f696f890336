from __future__ import annotations

import psycopg


def test_every_test_gets_a_database_of_its_own(flowgen_database: str) -> None:
    with psycopg.connect(flowgen_database) as connection:
        connection.execute("create table mine (id int)")


def test_a_database_does_not_see_what_another_test_wrote(flowgen_database: str) -> None:
    with psycopg.connect(flowgen_database) as connection:
        connection.execute("create table mine (id int)")
