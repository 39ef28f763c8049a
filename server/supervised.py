"""What a node says to who started it: a terminal, or the supervisor of this machine.

Promise: a node whose supervisor is gone drains and ends, whatever ended that; so
nothing is left behind that nobody restarts or stops. They talk over a socket pair whose
end the node inherits: lines of JSON, each an object.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable
from typing import Any, Protocol


class Starter(Protocol):
    """Who started this node."""

    shares_port: bool

    def ready(self, text: str) -> None:
        """The node serves; ``text`` says where."""

    def watch(
        self, gone: Callable[[], None], told: Callable[[dict[str, Any]], None]
    ) -> None:
        """Call ``gone`` when the node is to end, ``told`` with every other message."""


class Terminal:
    """Somebody who reads standard output; nothing is heard from there."""

    shares_port = False

    def ready(self, text: str) -> None:
        """Print it: the one line that a node writes there."""
        print(text, flush=True)  # noqa: T201

    def watch(
        self, gone: Callable[[], None], told: Callable[[dict[str, Any]], None]
    ) -> None:
        """Nothing: a terminal has signals."""


class Supervised:
    """The node's end of the socket pair; ``fd`` is what it inherited."""

    shares_port = True

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._text = b""
        # Of a group's Ctrl-C the supervisor makes one SIGTERM: two would be haste.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def ready(self, text: str) -> None:
        """Tell the supervisor; it prints when all are ready."""
        self._say({"ready": text})

    def ask(self) -> dict[str, Any] | None:
        """Wait for one message, before there is an event loop; None: it is gone."""
        while b"\n" not in self._text:
            received = self._socket.recv(1 << 16)
            if not received:
                return None
            self._text += received
        line, _, self._text = self._text.partition(b"\n")
        return dict(json.loads(line))

    def watch(
        self, gone: Callable[[], None], told: Callable[[dict[str, Any]], None]
    ) -> None:
        """Listen on the running loop."""
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)

        def readable() -> None:
            try:
                received = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                received = b""
            if not received:
                loop.remove_reader(self._socket)
                gone()
                return
            *lines, self._text = (self._text + received).split(b"\n")
            for line in lines:
                told(dict(json.loads(line)))

        loop.add_reader(self._socket, readable)

    def failed(self, text: str) -> None:
        """Tell the supervisor why this node ends before it serves."""
        self._say({"failed": text})

    def _say(self, message: dict[str, Any]) -> None:
        # If nobody hears it any more, the reader finds out.
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return
