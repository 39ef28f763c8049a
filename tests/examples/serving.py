"""Starts a server as a user would, and ends it the same way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
READY = re.compile(r"(?:Ready|[Rr]unning) on (http://127\.0\.0\.1:[1-9]\d*)")
START_LIMIT = 60
STOP_LIMIT = 30


class Output:
    """What a process says: read by a thread, so that its pipe never fills up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self.url: str | None = None
        self._process = process
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            found = READY.search(line)
            if found and self.url is None:
                self.url = found[1]
                self._settled.set()
        self._settled.set()

    def wait_for_url(self) -> str:
        """The address that the server prints once it answers."""
        self._settled.wait(START_LIMIT)
        if self.url is None:
            raise RuntimeError("the server did not start:\n" + "".join(self.lines))
        return self.url

    def close(self) -> None:
        """Wait for the last line."""
        self._thread.join(STOP_LIMIT)


@contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path = REPOSITORY,
) -> Iterator[str]:
    """The URL of a server that lives as long as this; a bad end is an error."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = Output(process)
    try:
        yield output.wait_for_url()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            output.close()


def dev(module: str) -> list[str]:
    """The command line of ``durable dev``."""
    return [sys.executable, "-m", "server", "dev", module, "--port", "0"]
