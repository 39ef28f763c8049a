"""Processes of the wire suite: the server under test and the Node drivers."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.settled import nobody_claims, wait_until_settled

ROOT = Path(__file__).parents[2]
NPM = ROOT / "tests" / "npm"
APP = "tests/wire/app.py"
READY = "Ready "
START_SECONDS = 60
DRIVER_SECONDS = 60


@contextmanager
def running_server(database_url: str, log: Path, **settings: str) -> Iterator[str]:
    """Run `durable dev` on the agents under test; yields its URL.

    Args:
        database_url: A migrated database for this server alone.
        log: The file that gets what the server writes to stderr.
        settings: Further environment variables.
    """
    environment = {
        **{key: value for key, value in os.environ.items() if "DURABLE_" not in key},
        "DURABLE_DATABASE_URL": database_url,
        "DURABLE_DRAIN_SECONDS": "0.5",
        **settings,
    }
    # Without `site` where we are without: then no installed copy of this project is in
    # the way of the one whose tests run (the mutants).
    flags = ["-S"] if sys.flags.no_site else []
    arguments = ("dev", APP, "--port", "0", "--no-reload")
    command = [sys.executable, *flags, "-m", "server", *arguments]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        yield _ready_url(process, log)
    finally:
        _stop(process)


def _ready_url(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the line that says where the server listens."""
    lines: queue.Queue[bytes] = queue.Queue()

    def read(stdout: IO[bytes]) -> None:
        for line in stdout:
            lines.put(line)
        lines.put(b"")

    assert process.stdout is not None
    threading.Thread(target=read, args=[process.stdout], daemon=True).start()
    try:
        line = lines.get(timeout=START_SECONDS).decode().strip()
    except queue.Empty:
        line = f"nothing in {START_SECONDS} s"
    if not line.startswith(READY):
        text = log.read_text(errors="replace")[-4000:]
        raise RuntimeError(f"the server said {line!r} instead of `{READY}`:\n{text}")
    return line.removeprefix(READY).removeprefix("on ")


@contextmanager
def running_fleet(database_url: str, logs: Path) -> Iterator[str]:
    """Run a front end and two workers, which share the objects; yields its URL."""
    with ExitStack() as stack:

        def start(name: str, role: str) -> str:
            log = logs / f"{name}.log"
            running = running_server(database_url, log, DURABLE_ROLE=role)
            return stack.enter_context(running)

        with nobody_claims(database_url):
            start("worker-1", "worker")
            start("worker-2", "worker")
            url = start("front", "front")
        wait_until_settled(database_url, 2)
        yield url


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM drains, a second one forces."""
    for _ in range(2):
        process.terminate()
        try:
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.wait()


def node_missing() -> str | None:
    """Say what is missing for the Node drivers, if anything is."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (NPM / "node_modules" / "agents").is_dir():
        return "tests/npm/node_modules is missing: run `make tests/npm/node_modules`"
    return None


def need_node() -> None:
    """Skip the test where Node or the npm packages are missing; in CI it fails."""
    missing = node_missing()
    if missing is not None and os.environ.get("CI"):
        pytest.fail(f"{missing}, and CI is set")
    if missing is not None:
        pytest.skip(missing)


class Driver:
    """One Node process that runs its checks together and reports each in a line."""

    def __init__(self, name: str, url: str, only: list[str]) -> None:
        self.name = name
        self._lines: dict[str, dict[str, Any]] = {}
        self._stderr: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            ["node", f"{name}.mjs"],
            cwd=NPM,
            env={
                **os.environ,
                "WIRE_HOST": url.removeprefix("http://"),
                "WIRE_ONLY": json.dumps(only),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._threads = [
            threading.Thread(target=read, daemon=True)
            for read in (self._read_results, self._read_errors)
        ]
        for thread in self._threads:
            thread.start()

    def _read_results(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            line = json.loads(text)
            with self._changed:
                self._lines[line["name"]] = line
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._stderr.extend(self._process.stderr)

    def result(self, check: str) -> dict[str, Any]:
        """Wait for the result of one check."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or check in self._lines, DRIVER_SECONDS
            )
            if check in self._lines:
                return self._lines[check]
        said = "".join(self._stderr)[-4000:]
        return {"ok": False, "detail": f"{self.name}.mjs never reported it\n{said}"}

    def stop(self) -> None:
        """End the process if it hasn't ended by itself."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
