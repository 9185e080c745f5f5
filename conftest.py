"""The servers that the tests run on, and a database that each test finds as migrations left it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import tempfile
import uuid
from pathlib import Path

import django
import hypothesis
import pytest
import redis
from django.conf import settings

# No example fails because the machine is busy. In CI they are the same each time: what fails there
# the next run of the same commit shows again. Elsewhere they are new ones each time, and no seed is
# set: with one, an example that failed is not kept for the next run.
UNHURRIED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("fresh", print_blob=True, **UNHURRIED)
hypothesis.settings.register_profile("ci", derandomize=True, **UNHURRIED)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "fresh")

ENVIRONMENT = pytest.StashKey[contextlib.ExitStack]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before Django's settings read it.

    That is why pyproject.toml does not name the settings to pytest-django: it would load them
    before any conftest. The servers are started once per run, by the process that the person
    started; xdist's workers inherit its environment.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        stack = config.stash[ENVIRONMENT] = contextlib.ExitStack()
        # Ended by a supervisor as by Ctrl-C: in order.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _start_missing_servers(stack)
        os.environ["SMSACTIVATOR_ENV"] = "development"
        os.environ["REDIS_PREFIX"] = f"test-{uuid.uuid4().hex[:12]}:"
        stack.callback(_remove_keys, os.environ["REDIS_URL"], os.environ["REDIS_PREFIX"])
        # A pool keeps connections of other threads open, and the test database cannot be dropped.
        os.environ.setdefault("DATABASE_POOL_SIZE", "0")
    else:
        os.environ["REDIS_PREFIX"] += f"{worker}:"
    os.environ["DJANGO_SETTINGS_MODULE"] = "smsactivator.settings"
    django.setup()
    # A worker's settings may have been read already, with the prefix of the whole run.
    settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] = os.environ["REDIS_PREFIX"]
    # The real one is slow on purpose.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Races, and whatever else needs real transactions, depend on the servers: mark them so."""
    for item in items:
        database = item.get_closest_marker("django_db")
        if database is not None and database.kwargs.get("transaction"):
            item.add_marker("servers")


def pytest_report_header(config: pytest.Config) -> str:
    """How an example that failed is run again."""
    if os.environ.get("CI"):
        return "random examples: the same in each run of CI"
    return "random examples: a failing one is tried first in the next run, and prints how elsewhere"


def pytest_unconfigure(config: pytest.Config) -> None:
    if ENVIRONMENT in config.stash:
        config.stash[ENVIRONMENT].close()


def _remove_keys(redis_url: str, prefix: str) -> None:
    """Leave nothing on a server that is not ours: a killed Celery worker cannot tidy up."""
    with redis.Redis.from_url(redis_url) as broker:
        for key in broker.scan_iter(f"{prefix}*"):
            broker.delete(key)


def _start_missing_servers(stack: contextlib.ExitStack) -> None:
    if os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"):
        return
    from smsactivator.embedded import throwaway_servers

    database_url, redis_url = stack.enter_context(throwaway_servers())
    os.environ["DATABASE_URL"] = os.environ.get("DATABASE_URL") or database_url
    os.environ["REDIS_URL"] = os.environ.get("REDIS_URL") or redis_url


@pytest.fixture
def server_home():
    """An empty directory that servers may keep their data in.

    Not tmp_path: as root, PostgreSQL runs as another user, and every pytest that starts on this
    machine closes the directories above tmp_path to others.
    """
    with tempfile.TemporaryDirectory(prefix="smsactivator-test-") as directory:
        home = Path(directory)
        home.chmod(0o711)
        yield home


@pytest.fixture(autouse=True)
def ledger_goes_by_the_tests_clock(monkeypatch):
    """Transfers are posted at the time that a test has travelled to, not at the database's."""
    from django.utils import timezone

    from wallet import ledger

    monkeypatch.setattr(ledger, "_clock", lambda: timezone.now())


@pytest.fixture(autouse=True)
def broker_is_trusted():
    """What a test has met with its broker is no other test's."""
    yield
    from smsactivator.common import queueing

    queueing.forget()


@pytest.fixture(autouse=True)
def sessions_are_not_written_on_the_way(monkeypatch):
    """However long a test takes on a busy machine, its pages take the same queries."""
    from smsactivator import sessions

    monkeypatch.setattr(sessions, "WRITTEN_EVERY", 10**6)


@pytest.fixture(autouse=True)
def books_agree(request):
    """After each test that moves money the audit passes, whatever the test was for.

    The wallet's own tests move money that belongs to no order; they are held to the checks of the
    ledger. A test that breaks the books on purpose says so: ``@pytest.mark.broken_books``.
    """
    marks = request.node.get_closest_marker
    if marks("django_db") is None or marks("broken_books") is not None:
        yield
        return
    request.getfixturevalue("db")
    yield
    from django.db import connection, transaction

    from smsactivator import auditing
    from wallet import audit
    from wallet.models import Transfer

    ledger_alone = request.path.is_relative_to(Path(__file__).parent / "wallet")
    checks = audit.LEDGER if ledger_alone else auditing.CHECKS

    # A test that ended in a refusal of the database has nothing left to look at.
    if connection.needs_rollback or not Transfer.objects.exists():
        return
    with transaction.atomic():
        found = {result.name: result.differences for result in audit.prove(checks) if result.count}
    assert found == {}


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Keep a copy of the rows that migrations made, and have every flush put them back.

    A transactional test ends with TRUNCATE of all tables, which the ledger's triggers refuse, and
    which takes what migrations have put there. Here a flush sets the triggers aside while it
    works, in its own transaction, and restores those rows with the same keys.
    """
    from django.db import connection
    from django.db.backends.postgresql.operations import DatabaseOperations

    with django_db_blocker.unblock(), connection.cursor() as cursor:
        # A database kept by --reuse-db has the copy of the run before, which may be of older rows.
        cursor.execute("DROP SCHEMA IF EXISTS migrated CASCADE")
        cursor.execute("CREATE SCHEMA migrated")
        migrated = []
        for table in connection.introspection.table_names(cursor):
            quoted = connection.ops.quote_name(table)
            cursor.execute(f"SELECT EXISTS (SELECT FROM {quoted})")
            if cursor.fetchone()[0] and table != "django_migrations":
                cursor.execute(f"CREATE TABLE migrated.{quoted} AS TABLE {quoted}")
                migrated.append(table)
        cursor.execute(
            "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
        )
        guarded = [table for (table,) in cursor.fetchall()]

    truncate = DatabaseOperations.sql_flush

    def flush(self, style, tables, **options):
        quote = self.quote_name
        aside = [quote(table) for table in guarded if table in tables]
        return [
            # The tests run as the application's role, which may not.
            "SET LOCAL ROLE NONE",
            *(f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in aside),
            *truncate(self, style, tables, **options),
            *(
                f"INSERT INTO {quote(table)} OVERRIDING SYSTEM VALUE "
                f"SELECT * FROM migrated.{quote(table)}"
                for table in migrated
                if table in tables
            ),
            # Foreign keys are looked at now: a table with checks to come cannot be altered.
            "SET CONSTRAINTS ALL IMMEDIATE",
            *(f"ALTER TABLE {table} ENABLE TRIGGER USER" for table in aside),
        ]

    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock():
        patch.setattr(DatabaseOperations, "sql_flush", flush)
        with _application_role(connection):
            yield


@contextlib.contextmanager
def _application_role(connection):
    """Let every connection of the tests work as a role that has what production's has.

    It is made by the superuser that the tests log in as, who owns the tables.
    """
    from django.core.management import call_command

    from wallet.tests.attack import APPLICATION

    with connection.cursor() as cursor:
        # Roles belong to the whole server, and other runs may make it at the same moment.
        cursor.execute("SELECT pg_advisory_lock(hashtext(%s))", [APPLICATION])
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APPLICATION])
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE ROLE {APPLICATION}")
        cursor.execute("SELECT pg_advisory_unlock(hashtext(%s))", [APPLICATION])
    call_command("grant_app_role", APPLICATION, stdout=io.StringIO())
    options = connection.settings_dict["OPTIONS"]
    before = options["options"]
    options["options"] = f"{before} -c role={APPLICATION}"
    connection.close()
    yield
    options["options"] = before
    connection.close()
