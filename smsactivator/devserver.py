"""`make run`: a whole copy of the shop's back-office on this machine, until Ctrl-C.

One process that owns all others. Everything it starts is in a session of its own, so the terminal's
Ctrl-C reaches this process alone, and the stop has an order: first what moves money, then the
servers it moves it on. Signals only set a flag that every wait looks at, so no moment exists in
which a child is started and not known.

Usage: python -m smsactivator.devserver [--port 8000] [--data-dir .data]
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO

import httpx
import psutil

from smsactivator.embedded import (
    Postgres,
    ServerStartError,
    Valkey,
    free_port,
    has_ended,
    signal_and_wait,
    tail,
)

PROJECT = Path(__file__).resolve().parent.parent
DATABASE = "smsactivator"
DEMO_SLA_SECONDS = "60"
DEMO_AUDIT_SECONDS = "30"
DEMO_SUPPORT_EMAIL = "support@smsactivator.example"
DEMO_UPSTREAM_KEY = "demo-upstream-key"
SEED = "20260507"  # what the simulated upstream draws its luck from
# Its address may hold a password, and is not said.
UNSET = "Unset it to have this copy start its own."
START_SECONDS = 60
GRACE_SECONDS = 5
LARGEST_PORT = 65_535
# Who ends is started again: after a second, then after twice as long each time. Who ends so often,
# never having run for STEADY_SECONDS, is not.
REVIVALS = 5
REVIVE_SECONDS = 1.0
STEADY_SECONDS = 60.0


class CannotRunError(Exception):
    """The copy cannot start or go on; the message is for the person at the terminal."""


class WrongValueError(CannotRunError):
    """PORT or DATA_DIR is nothing to start with."""


class StopRequested(Exception):
    """Someone asked this process to stop."""


@dataclass(frozen=True)
class Child:
    """A process of ours, the leader of its own session."""

    name: str
    process: psutil.Popen
    log: Path
    command: Sequence[str]


class Revival:
    """When a process that ended is started again."""

    def __init__(self) -> None:
        self.ends = 0
        self.started = time.monotonic()
        self.due: float | None = None

    def ended(self) -> float | None:
        """It has ended: in how many seconds to start it again, or None to give up."""
        now = time.monotonic()
        if now - self.started >= STEADY_SECONDS:
            self.ends = 0
        self.ends += 1
        if self.ends > REVIVALS:
            return None
        seconds = REVIVE_SECONDS * 2.0 ** (self.ends - 1)
        self.due = now + seconds
        return seconds

    def begun(self) -> None:
        """It was started again."""
        self.started = time.monotonic()
        self.due = None


class Launcher:
    """Starts everything, watches it, and leaves nothing behind."""

    def __init__(self, port: int, data_dir: Path, environment: Mapping[str, str]) -> None:
        self.port = port
        self.data_dir = data_dir.expanduser().absolute()
        self.logs = self.data_dir / "logs"
        self.simulator_port = 0
        self.children: list[Child] = []
        self.servers: list[Postgres | Valkey] = []
        self.revivals: defaultdict[str, Revival] = defaultdict(Revival)
        self.stopping = False
        self.environment = dict(environment) | {
            "SMSACTIVATOR_ENV": "development",
            "DJANGO_SETTINGS_MODULE": "smsactivator.settings",
            "PYTHONUNBUFFERED": "1",
        }
        self.environment.setdefault("ORDER_SLA_SECONDS", DEMO_SLA_SECONDS)
        self.environment.setdefault("AUDIT_SECONDS", DEMO_AUDIT_SECONDS)
        self.environment.setdefault("UPSTREAM_KEY_DEMO", DEMO_UPSTREAM_KEY)
        self.environment.setdefault("SUPPORT_EMAIL", DEMO_SUPPORT_EMAIL)
        self.environment.setdefault("MAIL_DIR", str(self.data_dir / "mail"))
        self.environment.setdefault("SITE_ADDRESS", self.site)

    @property
    def site(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self) -> None:
        """Start everything and watch it until a signal asks to stop; stops all it started.

        What ends meanwhile is started again. Raises CannotRunError when something does not start,
        or ends again and again.
        """
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, self._request_stop)
        with self._take_data_dir() as lock:
            self._claim(lock)
            try:
                self._stop_left_over()
                self._require_port()
                self._start()
                while True:
                    self.pause()
                    self._revive_ended()
            except StopRequested:
                say("Stopping …")
            except ServerStartError as error:
                raise CannotRunError(str(error)) from error
            finally:
                self._stop()

    def pause(self) -> None:
        """Wait a moment. Raises StopRequested once a signal has come."""
        time.sleep(0.1)
        if self.stopping:
            raise StopRequested

    # --- starting -------------------------------------------------------------------------------

    def _take_data_dir(self) -> IO[str]:
        """Make the data's directory, nobody else's to look into; returns the open lock file.

        Raises WrongValueError for one that cannot be written, or that holds other things.
        """
        lock = self.data_dir / "launcher.lock"
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            if not lock.exists() and any(self.data_dir.iterdir()):
                raise WrongValueError(
                    f"{self.data_dir} holds other things: choose a new or an empty directory with "
                    "DATA_DIR=."
                )
            self.data_dir.chmod(0o700)
            self.logs.mkdir(exist_ok=True)
            return lock.open("a+")
        except OSError as error:
            raise WrongValueError(
                f"{self.data_dir} cannot be used ({error.strerror}): choose a directory that you "
                "may write into with DATA_DIR=."
            ) from None

    def _claim(self, lock: IO[str]) -> None:
        """Be the only launcher of this data; the kernel lets go of the lock however we end."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRunError(
                f"Another copy already runs on {self.data_dir}: stop it, or choose another place "
                "with DATA_DIR=."
            ) from None

    def _require_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise CannotRunError(
                    f"Port {self.port} cannot be used ({error.strerror}): "
                    "choose another with PORT=."
                ) from None

    def _start(self) -> None:
        say(f"Starting on {self.data_dir} …")
        self._start_servers()
        self._write_run_env()
        self._manage("migrate", "--no-input")
        self.simulator_port = free_port()
        logins = self._manage(
            "seed_demo",
            *("--data-dir", str(self.data_dir)),
            *("--upstream-url", f"http://127.0.0.1:{self.simulator_port}"),
        )
        self._start_processes()
        self._wait_for_site()
        traffic = ("--url", self.site, "--key-file", str(self.data_dir / "storefront.key"))
        self._spawn("traffic", manage("demo_traffic", *traffic))
        say(self._banner(logins))

    def _start_servers(self) -> None:
        """The embedded servers, unless the environment names others: then it says so."""
        if self.environment.get("DATABASE_URL"):
            say(f"DATABASE_URL is set: using that database. {UNSET}")
        else:
            postgres = Postgres(self.data_dir / "postgres", log=self._fresh_log("postgres"))
            self.servers.append(postgres)
            postgres.start(self.pause)
            self.environment["DATABASE_URL"] = postgres.ensure_database(DATABASE)
        if self.environment.get("REDIS_URL"):
            say(f"REDIS_URL is set: using that broker. {UNSET}")
        else:
            valkey = Valkey(self.data_dir / "valkey", log=self._fresh_log("valkey"))
            self.servers.append(valkey)
            valkey.start(self.pause)
            self.environment["REDIS_URL"] = valkey.url()

    def _write_run_env(self) -> None:
        """What `make manage` needs to work on this copy while it runs."""
        names = [
            *("SMSACTIVATOR_ENV", "DATABASE_URL", "REDIS_URL", "REDIS_PREFIX"),
            *("ORDER_SLA_SECONDS", "UPSTREAM_KEY_DEMO", "SUPPORT_EMAIL", "MAIL_DIR"),
            "SITE_ADDRESS",
        ]
        lines = [
            f"export {name}={shlex.quote(self.environment[name])}\n"
            for name in names
            if name in self.environment
        ]
        write_private(self.data_dir / "run.env", "".join(lines))

    def _start_processes(self) -> None:
        self._spawn(
            "upstream",
            python(
                *("-m", "orders.upstreams.simulator"),
                *("--port", str(self.simulator_port), "--seed", SEED),
                *("--key", self.environment["UPSTREAM_KEY_DEMO"]),
                # Our account there lasts, and the shop earns on every price.
                *("--balance", "1000000", "--price", "0.05", "--early-cancel", "20"),
            ),
        )
        self._spawn(
            "web",
            python(
                *("-m", "gunicorn", "smsactivator.wsgi:application"),
                *("--bind", f"127.0.0.1:{self.port}", "--worker-class", "gthread"),
                *("--workers", "2", "--threads", "4", "--graceful-timeout", str(GRACE_SECONDS - 1)),
                # Its default path is one per user, and two copies may run side by side.
                "--no-control-socket",
            ),
        )
        worker = ("worker", "--loglevel", "INFO", "--without-gossip", "--without-mingle")
        self._spawn(
            "worker-money",
            celery(*worker, *("-Q", "money", "-n", f"money-{self.port}@%h"), *("-c", "2")),
        )
        self._spawn(
            "worker-upstream",
            celery(
                *worker,
                *("-Q", "upstream", "-n", f"upstream-{self.port}@%h"),
                *("--pool", "threads", "-c", "8"),
            ),
        )
        self._spawn(
            "worker-looks",
            celery(
                *worker,
                *("-Q", "looks,audit", "-n", f"looks-{self.port}@%h"),
                *("--pool", "threads", "-c", "4"),
            ),
        )
        self._spawn(
            "worker-mail",
            celery(
                *worker,
                *("-Q", "mail,exports", "-n", f"mail-{self.port}@%h"),
                *("--pool", "threads", "-c", "2"),
            ),
        )
        schedule = str(self.data_dir / "celerybeat-schedule")
        self._spawn("beat", celery("beat", "--loglevel", "INFO", "--schedule", schedule))

    def _wait_for_site(self) -> None:
        """Until the web processes answer, be it that the first sweep is still to come."""
        until = time.monotonic() + START_SECONDS
        with httpx.Client(trust_env=False, timeout=5) as client:
            while time.monotonic() < until:
                self._require_all_alive()
                try:
                    client.get(f"{self.site}/healthz")
                except httpx.TransportError:
                    self.pause()
                else:
                    return
        raise CannotRunError(
            f"The site does not answer at {self.site}; see {self.logs / 'web.log'}."
        )

    def _manage(self, command: str, *words: str) -> str:
        """Run a management command to its end; returns what it printed.

        What it prints is not logged: the demo's passwords are among it.
        """
        with tempfile.TemporaryFile("w+") as output:
            child = self._spawn(command, manage(command, *words), output=output)
            while not has_ended(child.process):
                self.pause()
            self.children.remove(child)
            output.seek(0)
            printed = output.read()
        if child.process.returncode:
            raise CannotRunError(f"manage.py {command} failed:\n{printed}{tail(child.log)}")
        return printed

    def _spawn(self, name: str, command: Sequence[str], *, output: IO[str] | None = None) -> Child:
        """Start a child; its errors, and its output unless it is wanted here, go to its log."""
        child = self._begin(name, command, self._fresh_log(name), output)
        self.children.append(child)
        self._remember_children()
        return child

    def _begin(
        self, name: str, command: Sequence[str], log: Path, output: IO[str] | None = None
    ) -> Child:
        with log.open("ab") as stream:
            process = psutil.Popen(
                command,
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream if output is None else output,
                stderr=stream,
                start_new_session=True,
            )
        return Child(name, process, log, command)

    def _fresh_log(self, name: str) -> Path:
        """The log of that name, empty: what earlier runs wrote must not fill the disk."""
        log = self.logs / f"{name}.log"
        log.write_bytes(b"")
        return log

    # --- watching -------------------------------------------------------------------------------

    def _require_all_alive(self) -> None:
        watched = [(child.name, child.process, child.log) for child in self.children]
        watched += [(server.name, server.process, server.log) for server in self.servers]
        for name, process, log in watched:
            if process is not None and has_ended(process):
                raise CannotRunError(
                    f"{name} ended unexpectedly (exit {process.returncode}), so everything stops; "
                    f"its log is {log}:\n{tail(log)}"
                )

    def _revive_ended(self) -> None:
        """Start again what has ended, when its time has come; the servers before their clients.

        Raises CannotRunError for what ends again and again.
        """
        for server in self.servers:
            if server.process is not None and has_ended(server.process):
                self._revive(server.name, server.process, server.log, partial(self._serve, server))
        for place, child in enumerate(self.children):
            if has_ended(child.process):
                self._revive(child.name, child.process, child.log, partial(self._respawn, place))

    def _revive(
        self, name: str, process: psutil.Popen, log: Path, start: Callable[[], None]
    ) -> None:
        revival = self.revivals[name]
        if revival.due is None:
            seconds = revival.ended()
            if seconds is None:
                raise CannotRunError(
                    f"{name} ended {revival.ends} times, never having run for "
                    f"{STEADY_SECONDS:.0f} s (the last time with exit {process.returncode}), so "
                    f"everything stops; its log is {log}:\n{tail(log)}"
                )
            say(
                f"{name} ended unexpectedly (exit {process.returncode}) and is started again in "
                f"{seconds:.0f} s; its log is {log}."
            )
        elif time.monotonic() >= revival.due:
            start()
            revival.begun()
            say(f"{name} was started again.")

    def _serve(self, server: Postgres | Valkey) -> None:
        try:
            server.start(self.pause)
        except ServerStartError:
            # One that ended is counted as an end; one that hangs is given up.
            if server.process is None or not has_ended(server.process):
                raise

    def _respawn(self, place: int) -> None:
        """Start a child again, when nothing of it is left; its log goes on."""
        ended = self.children[place]
        stop_sessions([ended.process])
        self.children[place] = self._begin(ended.name, ended.command, ended.log)
        self._remember_children()

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    # --- stopping -------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Stop every child, then the servers, within about ten seconds."""
        stop_sessions([child.process for child in self.children])
        for server in reversed(self.servers):
            server.stop()
        (self.data_dir / "run.env").unlink(missing_ok=True)
        self._children_file.unlink(missing_ok=True)

    @property
    def _children_file(self) -> Path:
        return self.data_dir / "processes.json"

    def _remember_children(self) -> None:
        """For the next start, should this process be killed before it can stop its children."""
        known = [
            [c.process.pid, c.process.create_time()]
            for c in self.children
            if not has_ended(c.process)
        ]
        fresh = self._children_file.with_suffix(".new")
        fresh.write_text(json.dumps(known))
        fresh.replace(self._children_file)

    def _stop_left_over(self) -> None:
        """Stop what a killed launcher of this data left running; the servers see to themselves."""
        if not self._children_file.exists():
            return
        left_over = []
        for pid, created in json.loads(self._children_file.read_text()):
            try:
                process = psutil.Process(pid)
                # The number may be a stranger's by now; the moment of its birth is not.
                if abs(process.create_time() - created) < 1 and not has_ended(process):
                    left_over.append(process)
            except psutil.NoSuchProcess:
                continue
        if left_over:
            say(f"Stopping {len(left_over)} processes that an earlier copy left running …")
            stop_sessions(left_over)

    def _banner(self, logins: str) -> str:
        sla = self.environment["ORDER_SLA_SECONDS"]
        key = (self.data_dir / "storefront.key").read_text().strip()
        usual = Path(".data").absolute()
        where = "" if self.data_dir == usual else f"DATA_DIR={shlex.quote(str(self.data_dir))} "
        return f"""
  smsactivator back-office runs at {self.site}

    Admin       {self.site}/admin/
    Storefront  {self.site}/api/v1/docs
    Health      {self.site}/healthz

{logins.rstrip()}

    API key     {key}  (of the storefront "Demo shop")
    SLA         {sla} s instead of the policy's 20 minutes (ORDER_SLA_SECONDS), to see refunds soon
    Commands    make manage {where}ARGS="audit_ledger"
    Mails       {self.environment["MAIL_DIR"]}  (to customers: written there instead of sent)
    Logs        {self.logs}

  Ctrl-C stops everything. The data stays in {self.data_dir}.
"""


def stop_sessions(leaders: Sequence[psutil.Process | psutil.Popen]) -> None:
    """SIGTERM to each leader, all at once; after GRACE_SECONDS SIGKILL to what is left of each."""
    signal_and_wait(leaders, signal.SIGTERM, GRACE_SECONDS)
    for leader in leaders:
        # Its children share its group; a leader that ended in order has none left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
    signal_and_wait(leaders, signal.SIGKILL, 1)


def python(*words: str) -> list[str]:
    return [sys.executable, *words]


def manage(*words: str) -> list[str]:
    return python(str(PROJECT / "manage.py"), *words)


def celery(*words: str) -> list[str]:
    return python("-m", "celery", "-A", "smsactivator", *words)


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody but its owner may read, from its first moment on."""
    path.unlink(missing_ok=True)
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        stream.write(text)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """The command line; the exit code is 0 after a requested stop, 1 when it could not run.

    It is 2 when a value was given that nothing can run with.
    """
    parser = argparse.ArgumentParser(prog="python -m smsactivator.devserver")
    parser.add_argument("--port", default="8000")
    parser.add_argument("--data-dir", type=Path, default=PROJECT / ".data")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        Launcher(port_number(options.port), options.data_dir, os.environ).run()
    except CannotRunError as error:
        sys.stderr.write(f"\n{error}\n")
        return 2 if isinstance(error, WrongValueError) else 1
    return 0


def port_number(text: str) -> int:
    """The port. Raises WrongValueError for what is none."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= LARGEST_PORT:
        raise WrongValueError(
            f"{text} is no port: choose a number from 1 to {LARGEST_PORT} with PORT=."
        )
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
