"""The embedded servers: data lasts, and nothing that a crash leaves behind is in the way."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from smsactivator.embedded import Postgres, Valkey, has_ended


@pytest.fixture
def postgres(server_home):
    server = Postgres(server_home / "postgres", log=server_home / "postgres.log", throwaway=True)
    yield server
    server.stop()


def again(server: Postgres) -> Postgres:
    """Another launcher's view of the same data."""
    return Postgres(server.directory, log=server.log, throwaway=True)


def test_data_lasts_over_a_restart(postgres):
    postgres.start()
    with psycopg.connect(postgres.ensure_database("shop")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    postgres.stop()

    postgres.start()
    with psycopg.connect(postgres.ensure_database("shop")) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_server_left_running_is_stopped_and_its_data_taken_over(postgres):
    # given a server whose launcher was killed
    postgres.start()
    left_running = postgres.process
    # when another starts on the same data
    successor = again(postgres)
    try:
        successor.start()
        # then the first is gone and the second answers
        assert has_ended(left_running)
        psycopg.connect(successor.url()).close()
    finally:
        successor.stop()


def test_a_pid_file_that_names_a_stranger_fools_nobody(postgres):
    # given a server that was killed, and its number given to another process: ours
    postgres.start()
    pid_file = postgres.data / "postmaster.pid"
    written = pid_file.read_text().split("\n")
    postgres.process.kill()
    postgres.process.wait()
    pid_file.write_text("\n".join([str(os.getpid()), *written[1:]]))
    # then it starts again, and we live
    postgres.start()
    psycopg.connect(postgres.url()).close()
    assert psutil.pid_exists(os.getpid())


def test_an_interrupted_initdb_is_done_again(postgres):
    (postgres.directory / "data.new").mkdir(parents=True)
    (postgres.directory / "data.new" / "PG_VERSION").write_text("18")
    postgres.start()
    psycopg.connect(postgres.url()).close()


def test_a_long_path_gets_a_short_socket(server_home):
    directory = server_home / ("long" * 25) / ("longer" * 20)
    server = Postgres(directory, log=server_home / "postgres.log", throwaway=True)
    try:
        server.start()
        with psycopg.connect(server.url()) as connection:
            sockets = Path(connection.info.host)
            assert (sockets / ".s.PGSQL.5432").is_socket()
    finally:
        server.stop()
    assert not sockets.exists()


def test_valkey_stops_one_left_running_and_forgets_on_restart(server_home):
    # given a server with a key, whose launcher was killed
    killed = Valkey(server_home / "valkey", log=server_home / "valkey.log")
    killed.start()
    with redis.Redis.from_url(killed.url()) as client:
        client.set("key", "value")
    # when another starts there
    server = Valkey(server_home / "valkey", log=server_home / "valkey.log")
    try:
        server.start()
        # then the first is gone, and nothing of it is kept
        assert has_ended(killed.process)
        with redis.Redis.from_url(server.url()) as client:
            assert client.dbsize() == 0
    finally:
        server.stop()
    assert list((server_home / "valkey").iterdir()) == []


def test_its_log_holds_nothing_of_the_rows_that_it_refuses(postgres):
    postgres.start()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE ticket (email text UNIQUE, subject varchar(20) CHECK (subject <> 'no'))"
        )
        connection.execute("INSERT INTO ticket VALUES ('ann@example.com', 'My secret')")
        for email, subject, prepare in (
            ("ann@example.com", "My secret", True),
            ("bob@example.com", "no", False),
            ("eve@example.com", "My secret that is far too long", True),
        ):
            with pytest.raises(psycopg.Error):
                connection.execute(
                    "INSERT INTO ticket VALUES (%s, %s)", [email, subject], prepare=prepare
                )
            # As Django sends it: the values are in the text.
            with pytest.raises(psycopg.Error):
                psycopg.ClientCursor(connection).execute(
                    "INSERT INTO ticket VALUES (%s, %s)", [email, subject]
                )
        with (
            pytest.raises(psycopg.Error),
            connection.cursor() as cursor,
            cursor.copy("COPY ticket FROM STDIN") as copy,
        ):
            copy.write("carl@example.com\tMy secret\textra\n")
    postgres.stop()

    written = postgres.log.read_text()
    assert "violates unique constraint" in written
    assert "violates check constraint" in written
    assert "extra data after last expected column" in written
    for held in ("example.com", "secret", "INSERT"):
        assert held not in written


def test_what_holds_the_data_is_closed_to_others(server_home):
    home = server_home / "home"
    home.mkdir(mode=0o700)
    server = Postgres(home / "postgres", log=home / "postgres.log", throwaway=True)
    try:
        server.start()
        psycopg.connect(server.url()).close()
        assert home.stat().st_mode & 0o767 == 0o700
        assert (home / "postgres" / "data").stat().st_mode & 0o077 == 0
    finally:
        server.stop()
