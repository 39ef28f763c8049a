"""A TCP tap between a node and Postgres: it knows when a commit is in flight.

It forwards bytes unchanged and reads along. A commit is *in flight* from the moment
its last byte was handed to Postgres' socket until the answer (``ReadyForQuery``) is
handed to the node's. Because the tap runs on the event loop of the test, a callback
that kills the node at such a moment can't be overtaken by the answer: whether a kill
hit a commit is known exactly, from outside of the node.

It can also be a bad network: hold back what would commit, as if its last packet came
late; lose one side of a connection only; refuse new ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.tap_readers import BackendReader, FrontendReader


@dataclass(frozen=True, slots=True)
class Hold:
    """On which sessions, by their application's name, the end of which statements."""

    session: Callable[[str], bool]
    statement: Callable[[str], bool]


class PostgresTap:
    """Listens on loopback, forwards to Postgres, tells about commits.

    ``on_commit_sent`` runs when a commit has been handed to Postgres,
    ``on_commit_answered`` when its answer is here and the node hasn't got it.
    """

    def __init__(self, host: str, port: int) -> None:
        """Forward to the Postgres at ``host`` and ``port`` once started."""
        # Where new connections go; a Postgres that comes back may have moved.
        self.target = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[_NodeSide] = set()
        self.on_commit_sent: Callable[[], None] | None = None
        self.on_commit_answered: Callable[[], None] | None = None
        self.commits_sent = 0
        # While it is cut, bytes are swallowed in both directions and nothing is closed.
        self.is_cut = False
        # Whether new connections are closed at once.
        self.refuses = False
        # What is held back, on each connection from its next such statement on.
        self.hold: Hold | None = None

    def heal(self) -> None:
        """Let bytes through again: on new connections, the old ones have lost some."""
        self.is_cut = self.refuses = False
        self.let_go()
        for link in list(self._links):
            link.close()

    @property
    def held(self) -> list[_NodeSide]:
        """The connections on which something is held back."""
        return [link for link in self._links if link.is_held]

    def let_go(self) -> None:
        """Hold nothing back any more."""
        self.hold = None
        for link in self.held:
            link.let_go()

    def strand(self, session: Callable[[str], bool]) -> None:
        """End such sessions; the node isn't told, what it sends there is swallowed."""
        for link in self._links:
            if session(link.frontend.application):
                link.strand()

    def end(self, session: Callable[[str], bool]) -> None:
        """End such sessions for both sides."""
        for link in list(self._links):
            if session(link.frontend.application):
                link.close()

    async def start(self) -> int:
        """Listen; the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _NodeSide(self, self.target), "127.0.0.1", 0
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the listener and every connection."""
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.close()
        await self._server.wait_closed()

    @property
    def commits_in_flight(self) -> int:
        """Commits handed to Postgres whose answer the node hasn't been given."""
        return sum(link.commits_in_flight for link in self._links)

    def opened(self, link: _NodeSide) -> None:
        """A node connected."""
        self._links.add(link)

    def closed(self, link: _NodeSide) -> None:
        """A node's connection is gone, and what was under way on it."""
        self._links.discard(link)

    def commit_sent(self) -> None:
        """A commit has just been handed to Postgres."""
        self.commits_sent += 1
        if self.on_commit_sent is not None:
            self.on_commit_sent()

    def commit_answered(self) -> None:
        """The answer to a commit has come and was not yet handed on."""
        if self.on_commit_answered is not None:
            self.on_commit_answered()


class _NodeSide(asyncio.Protocol):
    """The connection that the node opened.

    ``before``: what came along with what is held back, and was let through.
    """

    def __init__(self, tap: PostgresTap, target: tuple[str, int]) -> None:
        self._tap = tap
        self._target = target
        self._early = bytearray()
        self._dial: asyncio.Task[None] | None = None
        self._postgres: asyncio.Transport | None = None
        self.transport: asyncio.Transport | None = None
        self.frontend = FrontendReader()
        self.backend = BackendReader()
        self._held: bytearray | None = None
        self._stranded = False
        self.before = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._tap.opened(self)
        if self._tap.refuses:
            self.close()
        elif not self._tap.is_cut:
            self._dial = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._target
        try:
            transport, _ = await loop.create_connection(
                lambda: _PostgresSide(self), host, port
            )
        except OSError:
            # Nobody listens there: the node shall see that, too.
            self.close()
            return
        self._postgres = transport
        if self.transport is None or self.transport.is_closing():
            transport.close()
            return
        self._forward(bytes(self._early))
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        if self._tap.is_cut or self._stranded:
            return
        if self._postgres is None:
            self._early += data
        elif self._held is not None:
            self._held += data
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        hold, passes = self._tap.hold, None
        if hold is not None and hold.session(self.frontend.application):
            passes = self.frontend.split(data, hold.statement)
        if passes is not None:
            self.before, rest = data[:passes], data[passes:]
            self._held = bytearray(rest)
            data = self.before
        self._forward(data)

    @property
    def is_held(self) -> bool:
        """Whether something is held back here."""
        return self._held is not None

    def let_go(self) -> None:
        """Hand on what was held back, also of a node that is gone."""
        held, self._held = self._held, None
        if held is not None and self._postgres is not None and not self._stranded:
            self._forward(bytes(held))
        if self.transport is None or self.transport.is_closing():
            self._end()

    def forsake(self) -> None:
        """Break the connection for the node; Postgres still gets what is held back."""
        if self.transport is not None:
            self.transport.abort()

    def strand(self) -> None:
        """Break the connection for Postgres; the node hears nothing of it."""
        self._stranded = True
        if self._postgres is not None:
            self._postgres.abort()

    def _forward(self, data: bytes) -> None:
        assert self._postgres is not None
        self._postgres.write(data)
        if self.frontend.feed(data):
            self._tap.commit_sent()

    @property
    def commits_in_flight(self) -> int:
        """Commits on this connection; none while bytes wait for Postgres' socket."""
        if self._postgres is None or self._postgres.get_write_buffer_size():
            return 0
        return sum(self.frontend.requests)

    def answer(self, data: bytes) -> None:
        """Hand Postgres' bytes to the node."""
        if self._tap.is_cut or self._stranded:
            return
        assert self.transport is not None
        answered = self.backend.feed(data, self.frontend)
        requests = self.frontend.requests
        if any(requests[i] for i in range(answered)):
            self._tap.commit_answered()
        if not self.transport.is_closing():
            self.transport.write(data)
        for _ in range(answered):
            requests.popleft()

    def connection_lost(self, error: Exception | None) -> None:
        if self._held is None:
            self._end()

    def _end(self) -> None:
        self._tap.closed(self)
        if self._postgres is not None:
            self._postgres.close()

    def postgres_lost(self) -> None:
        """Postgres' side has ended: so does the node's, unless it isn't to know."""
        self._held = None
        if not self._stranded:
            self.close()
            if self.transport is None or self.transport.is_closing():
                self._tap.closed(self)

    def close(self) -> None:
        """End both sides."""
        if self.transport is not None:
            self.transport.close()


class _PostgresSide(asyncio.Protocol):
    """The tap's own connection to Postgres, on behalf of one of the node's."""

    def __init__(self, node: _NodeSide) -> None:
        self._node = node

    def data_received(self, data: bytes) -> None:
        self._node.answer(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._node.postgres_lost()
