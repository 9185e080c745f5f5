"""`make run` for real: what it starts answers, and whatever ends it leaves nothing behind."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from smsactivator import devserver
from smsactivator.devserver import CannotRunError, Launcher
from smsactivator.embedded import free_port, has_ended, signal_and_wait

OURS = ("DATABASE_URL", "REDIS_URL", "REDIS_PREFIX", "DATABASE_POOL_SIZE")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in OURS}


@pytest.fixture
def data_dir(server_home):
    return server_home / "data"


class Launches:
    """Launchers on one data directory, and every process that was ever seen below them."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.launchers: list[subprocess.Popen[str]] = []
        self.seen: list[psutil.Process] = []

    def start(self, port: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "smsactivator.devserver", "--port", str(port)]
        launcher = subprocess.Popen(
            [*command, "--data-dir", str(self.data_dir)],
            cwd=devserver.PROJECT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.launchers.append(launcher)
        return launcher

    def family(self, launcher: subprocess.Popen[str]) -> list[psutil.Process]:
        """Every process below a launcher that runs."""
        found = psutil.Process(launcher.pid).children(recursive=True)
        self.seen += found
        return found

    def end(self) -> None:
        for launcher in self.launchers:
            if launcher.poll() is None:
                self.family(launcher)
            launcher.kill()
            launcher.wait()
            launcher.stdout.close()
        signal_and_wait(self.seen, signal.SIGKILL, 5)


@pytest.fixture
def launches(data_dir):
    launches = Launches(data_dir)
    yield launches
    launches.end()


def banner(launcher: subprocess.Popen[str]) -> str:
    """What it prints until it says how to stop it, or until it ends."""
    lines = []
    for line in launcher.stdout:
        lines.append(line)
        if "Ctrl-C stops everything" in line:
            break
    return "".join(lines)


def wait_for(condition, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < until:
        time.sleep(0.05)
    return met


def test_a_copy_is_killed_starts_again_on_its_data_and_stops(launches, data_dir):
    # given a copy that runs
    port = free_port()
    first = launches.start(port)
    said = banner(first)
    for expected in (f"http://127.0.0.1:{port}", "/admin/", "/api/v1/docs", "finance2", "60 s"):
        assert expected in said
    assert data_dir.stat().st_mode & 0o707 == 0o700
    assert (data_dir / "run.env").stat().st_mode & 0o777 == 0o600
    key = (data_dir / "storefront.key").read_text()
    left = launches.family(first)
    # when the launcher is killed, and starts again
    first.kill()
    first.wait()
    second = launches.start(port)
    said = banner(second)
    # then nothing of the first is left, its data is found, and the site gets healthy
    assert key.strip() in said
    assert all(has_ended(process) for process in left)
    site = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
    with site:
        assert wait_for(lambda: site.get("/healthz").status_code == 200, 20)
    # and Ctrl-C ends it, with all that it started
    left = launches.family(second)
    assert len(left) >= 8
    os.killpg(second.pid, signal.SIGINT)
    assert second.wait(15) == 0
    assert wait_for(lambda: all(has_ended(process) for process in left), 1)
    assert not (data_dir / "run.env").exists()


def test_a_port_that_is_taken_is_named(launches):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        launcher = launches.start(port)
        said = banner(launcher)
    assert launcher.wait() == 1
    assert f"Port {port} cannot be used" in said
    assert "PORT=" in said
    assert "Traceback" not in said


def test_what_dies_is_started_again_and_said_and_the_copy_goes_on(server_home):
    # given a copy, in a place whose name has a space
    launches = Launches(server_home / "our data")
    port = free_port()
    try:
        launcher = launches.start(port)
        said = banner(launcher)
        [command] = [line for line in said.splitlines() if "make manage" in line]
        assert shlex.split(command)[3] == f"DATA_DIR={server_home / 'our data'}"
        family = launches.family(launcher)

        def find(word: str) -> psutil.Process:
            """The leader of what was started with this word."""
            return next(p for p in family if word in p.cmdline()[0:8] and os.getsid(p.pid) == p.pid)

        leaders = {
            "beat": find("beat"),
            "web": find("gunicorn"),
            "valkey": next(p for p in family if p.name().startswith("valkey")),
            "postgres": next(p for p in family if "-D" in p.cmdline()),
        }
        # when some of it is killed
        for leader in leaders.values():
            leader.kill()
        # then each is named, and runs again
        missing = {f"{name} ended unexpectedly (exit -9)" for name in leaders}
        missing |= {f"{name} was started again." for name in leaders}
        for line in launcher.stdout:
            missing -= {words for words in missing if line.startswith(words)}
            if not missing:
                break
        assert missing == set()
        site = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)

        def healthy() -> bool:
            try:
                return site.get("/healthz").status_code == 200
            except httpx.TransportError:
                return False

        with site:
            assert wait_for(healthy, 60)
        launches.family(launcher)
        os.killpg(launcher.pid, signal.SIGINT)
        assert launcher.wait(20) == 0
    finally:
        launches.end()


@pytest.mark.parametrize("port", ["99999", "0", "-1", "http", "8 0"])
def test_what_is_no_port_is_refused_in_one_sentence(data_dir, port):
    ended = run("--port", port, "--data-dir", str(data_dir))

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.strip() == (
        f"{port} is no port: choose a number from 1 to 65535 with PORT=."
    )
    assert not data_dir.exists()


def test_a_data_dir_that_cannot_be_written_is_refused_in_one_sentence(server_home):
    (server_home / "file").write_text("")
    for place, why in (("file", "File exists"), ("file/below", "Not a directory")):
        ended = run("--port", str(free_port()), "--data-dir", str(server_home / place))

        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.strip() == (
            f"{server_home / place} cannot be used ({why}): choose a directory that you may write "
            "into with DATA_DIR=."
        )


def test_a_directory_that_holds_other_things_is_left_as_it_is(server_home):
    (server_home / "letter.txt").write_text("Dear all")
    before = server_home.stat().st_mode
    ended = run("--port", str(free_port()), "--data-dir", str(server_home))

    assert ended.returncode == 2
    assert f"{server_home} holds other things: choose a new or an empty directory" in ended.stderr
    assert server_home.stat().st_mode == before
    assert [path.name for path in server_home.iterdir()] == ["letter.txt"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "smsactivator.devserver", *words],
        cwd=devserver.PROJECT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def launcher(data_dir):
    launcher = Launcher(free_port(), data_dir, ENVIRONMENT)
    launcher.logs.mkdir(parents=True)
    yield launcher
    launcher._stop()


def test_two_launchers_never_share_their_data(launcher, data_dir):
    other = Launcher(free_port(), data_dir, ENVIRONMENT)
    with (
        (data_dir / "launcher.lock").open("a+") as ours,
        (data_dir / "launcher.lock").open("a+") as theirs,
    ):
        launcher._claim(ours)
        with pytest.raises(CannotRunError, match="DATA_DIR="):
            other._claim(theirs)


def test_servers_of_the_environment_are_used_and_said_without_their_passwords(data_dir, capsys):
    urls = {
        "DATABASE_URL": "postgresql://shop:s3cret@db.test/shop",
        "REDIS_URL": "redis://:s3cret@redis.test/0",
    }
    launcher = Launcher(free_port(), data_dir, ENVIRONMENT | urls)

    launcher._start_servers()

    assert launcher.servers == []
    assert {name: launcher.environment[name] for name in urls} == urls
    assert capsys.readouterr().out.splitlines() == [
        "DATABASE_URL is set: using that database. Unset it to have this copy start its own.",
        "REDIS_URL is set: using that broker. Unset it to have this copy start its own.",
    ]


def test_a_child_that_dies_is_named_with_its_last_words(launcher):
    child = launcher._spawn("beat", [sys.executable, "-c", "raise SystemExit('out of breath')"])
    child.process.wait()
    with pytest.raises(CannotRunError, match=r"beat ended unexpectedly \(exit 1\)") as death:
        launcher._require_all_alive()
    assert "out of breath" in str(death.value)


def test_a_child_that_dies_again_and_again_is_given_up_with_the_reason(
    launcher, monkeypatch, capsys
):
    monkeypatch.setattr(devserver, "REVIVE_SECONDS", 0.01)
    launcher._spawn("beat", [sys.executable, "-c", "raise SystemExit('out of breath')"])

    def tend() -> None:
        for _ in range(6000):
            launcher._revive_ended()
            time.sleep(0.01)

    with pytest.raises(
        CannotRunError,
        match=r"beat ended 6 times, never having run for 60 s \(the last time with exit 1\)",
    ) as death:
        tend()
    assert str(death.value).count("out of breath") == 6
    assert capsys.readouterr().out.count("beat was started again.") == 5


def test_a_child_that_ran_for_long_is_counted_anew_and_each_wait_is_longer(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    revival = devserver.Revival()
    assert [revival.ended() for _ in range(6)] == [1, 2, 4, 8, 16, None]
    revival.begun()
    now += 60
    assert revival.ended() == 1


def test_a_child_that_does_not_listen_is_killed_with_its_children(launcher, monkeypatch):
    # given a child, and a child of its own, that ignore SIGTERM
    monkeypatch.setattr(devserver, "GRACE_SECONDS", 0.2)
    deaf = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); "
        "print('deaf', flush=True); time.sleep(60)"
    )
    child = launcher._spawn("worker", [sys.executable, "-c", deaf])
    assert wait_for(lambda: child.log.read_text().count("deaf") == 2, 10)
    both = [psutil.Process(child.process.pid), *child.process.children()]
    assert len(both) == 2
    # when
    launcher._stop()
    # then
    assert wait_for(lambda: all(has_ended(process) for process in both), 5)


def test_a_stranger_with_a_left_over_number_is_spared(launcher, data_dir):
    # given a file of an earlier copy that has our own number, of another birth
    (data_dir / "processes.json").write_text(f"[[{os.getpid()}, 1.0]]")
    # then looking for what that copy left running stops nobody
    launcher._stop_left_over()
    assert psutil.pid_exists(os.getpid())
