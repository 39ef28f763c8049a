"""The parent of the embedded Postgres: a small process that outlives every node.

Run as ``python -I postgres_keeper.py``, with its orders as JSON on standard input,
in a session of its own, so that Ctrl-C in a terminal doesn't reach Postgres before
the nodes have drained. It imports nothing of ours, and little at all: it stays in
memory as long as Postgres does.

Nodes hold a *shared* file lock on ``in-use``. The keeper waits for it *exclusively*:
the kernel drops a lock with its process, so a node that was killed counts no more, and
there is nothing to repair. Whoever has the lock exclusively stops Postgres.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

_START_SECONDS: Final = 120.0  # long enough to replay what a crash left
_STOP_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01
_READY: Final = "ready"
_PASSING: Final = (b"pre-existing shared memory", b"could not bind")
_PIDFILE_PORT: Final = 3
_PIDFILE_STATUS: Final = 7


class Keeper:
    """Starts Postgres, restarts it if it dies, stops it when nobody uses it."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._command: list[str] = orders["command"]
        self._environment: dict[str, str] = orders["environment"]
        self._account: list[int] | None = orders["account"]
        self._data = Path(orders["data"])
        self._log = Path(orders["log"])
        self._port = 0
        self._pid = 0
        self._started = 0.0

    def start(self) -> None:
        """Starts Postgres, or takes over one that a killed keeper left running."""
        left = running_pid(self._data)
        if left is not None:
            self._pid = left
            return
        remove_foreign_pidfile(self._data)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self._port = self._port or free_port()
            logged = self._log.stat().st_size if self._log.exists() else 0
            self._spawn()
            if self._wait_ready(deadline):
                return
            if not self._will_pass(logged):
                break
            time.sleep(0.1)
        sys.exit("Postgres didn't start")

    def _will_pass(self, logged: int) -> bool:
        """Whether it failed for a reason that passes: try again, on another port.

        Another process took the port first, or the backends of a killed Postgres
        still hold its memory.
        """
        self._port = 0
        with self._log.open("rb") as log:
            log.seek(logged)
            said = log.read()
        return any(reason in said for reason in _PASSING)

    def _spawn(self) -> None:
        self._started = time.monotonic()
        self._pid = os.fork()
        if self._pid == 0:
            self._become_postgres()

    def _become_postgres(self) -> NoReturn:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if self._account is not None:
                uid, gid = self._account
                os.setgroups([])
                os.setgid(gid)
                os.setuid(uid)
            os.chdir("/")
            command = [*self._command, "-p", str(self._port)]
            os.execve(command[0], command, self._environment)
        except OSError as error:
            os.write(2, f"Postgres can't be run: {error}\n".encode())
            os._exit(1)

    def _wait_ready(self, deadline: float) -> bool:
        while time.monotonic() < deadline:
            if os.waitpid(self._pid, os.WNOHANG)[0] == self._pid:
                return False
            lines = pidfile(self._data)
            if lines and lines[0] == str(self._pid) and lines[-1] == _READY:
                return True
            time.sleep(_POLL_SECONDS)
        self.stop()
        return False

    def on_child(self, *_: object) -> None:
        """Postgres ended by itself: starts it again, but not in a circle."""
        try:
            ended = os.waitpid(self._pid, os.WNOHANG)[0]
        except ChildProcessError:
            return
        if ended == self._pid:
            if time.monotonic() - self._started < 1:
                sys.exit("Postgres ended at once")
            self.start()

    def stop(self) -> None:
        """Fast shutdown; if that hangs, an immediate one: data are safe either way."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            try:
                os.kill(self._pid, how)
            except ProcessLookupError:
                return
            deadline = time.monotonic() + _STOP_SECONDS
            while time.monotonic() < deadline:
                if self._gone():
                    return
                time.sleep(_POLL_SECONDS)

    def _gone(self) -> bool:
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] == self._pid
        except ChildProcessError:  # it was taken over: not our child
            return not is_alive(self._pid)


def pidfile(data: Path) -> list[str]:
    """The complete lines of ``postmaster.pid``, stripped, or nothing."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
    if len(lines) <= _PIDFILE_STATUS:
        return []
    return [line.strip() for line in lines[: _PIDFILE_STATUS + 1]]


def is_alive(pid: int) -> bool:
    """Whether there is such a process, whoever it belongs to."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def running_pid(data: Path) -> int | None:
    """The Postgres that runs on this directory, if one does.

    After ``kill -9`` the file stays, and its number may belong to another process by
    now; the command line tells which it is.
    """
    lines = pidfile(data)
    if not lines or not lines[0].isdigit() or not is_alive(int(lines[0])):
        return None
    pid = int(lines[0])
    return pid if str(data) in _command_line(pid) else None


def remove_foreign_pidfile(data: Path) -> None:
    """Removes a ``postmaster.pid`` whose number another program has got since.

    Postgres would take that program for itself and refuse to start, for ever. In all
    other cases the file must stay: it guards against backends that are still there.
    """
    lines = pidfile(data)
    if lines and lines[0].isdigit() and is_alive(int(lines[0])):
        (data / "postmaster.pid").unlink(missing_ok=True)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def _command_line(pid: int) -> str:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        with os.popen(f"ps -ww -o command= -p {pid}") as output:  # macOS
            return output.read()


def port(data: Path) -> int:
    """The port of the Postgres that runs on this directory."""
    return int(pidfile(data)[_PIDFILE_PORT])


def main() -> None:
    """Takes orders, starts Postgres, says ``ready``, waits, stops Postgres."""
    orders = json.loads(sys.stdin.readline())
    if os.fork():
        os._exit(0)  # init is the keeper's parent: no node has to reap it
    keeping = os.open(orders["keeping"], os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(keeping, fcntl.LOCK_EX)
    in_use = os.open(orders["in_use"], os.O_RDWR | os.O_CREAT, 0o600)
    keeper = Keeper(orders)
    keeper.start()
    signal.signal(signal.SIGCHLD, keeper.on_child)
    keeper.on_child()  # what happened before the line above
    sys.stdout.write(_READY + "\n")
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    fcntl.flock(in_use, fcntl.LOCK_EX)  # until the last node is gone
    keeper.stop()


if __name__ == "__main__":
    main()
