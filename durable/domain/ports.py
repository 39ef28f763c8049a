"""The seams: what a floor asks of one that it must not import. Nothing else is here."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from durable.domain.alarms import Alarm
    from durable.domain.ids import DurableObjectId
    from durable.domain.sql_result import SqlResult
    from durable.domain.writes import Claim, ObjectRow, Slot, Stored, WriteSet


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one read brings of an object when it is activated.

    ``rows`` are its first entries in (space, key) order; ``complete`` says that these
    are all it has. ``exists`` is False for an object that never committed.
    """

    exists: bool
    name: str | None
    sql_schema: str | None
    rows: dict[Slot, Stored]
    complete: bool
    alarm: Alarm | None = None
    # Wakes in which it ended no event before its owner fell.
    wakes: int = 0


class Reader(Protocol):
    """Reads an object's committed rows. Every call sees all acknowledged commits."""

    async def load(self, shard: int, object_id: UUID) -> Loaded: ...

    async def get(
        self, shard: int, object_id: UUID, space: str, keys: Sequence[str]
    ) -> dict[str, Stored]: ...

    async def scan(
        self, shard: int, object_id: UUID, space: str, key_range: KeyRange
    ) -> dict[str, Stored]: ...

    async def size(self, shard: int, object_id: UUID, schema: str | None) -> int:
        """Bytes of an object's keys and values, and of the tables of its schema."""

    async def drain(self, shard: int) -> None:
        """Return when no writer off the lane is at work in the shard any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRange:
    """Keys in UTF-8 order, at most ``limit``: ``start`` inclusive, ``end`` not."""

    start: str = ""
    end: str | None = None
    reverse: bool = False
    limit: int | None = None


class Trials(Protocol):
    """Writes down which objects are woken where an owner has fallen."""

    async def begin(self, claim: Claim, object_id: UUID, wakes: int) -> bool:
        """Return when the wake is written down; False: none need be.

        Raises:
            Quarantined: the object took three owners down.
            Unavailable: the lane is lost.
        """

    def end(self, claim: Claim, object_id: UUID) -> None:
        """It has ended an event, or its life, and the owner lives."""


class Freshness(Protocol):
    """Whether an effect may leave now: the lane heard from Postgres a moment ago."""

    def is_fresh(self) -> bool: ...

    def when_fresh(self, callback: Callable[[], None]) -> None: ...


class Committable(Protocol):
    """Something with a write set to commit: an activation, as its lane sees it."""

    object_id: UUID
    claim: Claim

    def take_writes(self) -> WriteSet | None: ...

    def committed(self) -> None: ...

    def commit_failed(self, error: Exception) -> None: ...


class CommitLog(Freshness, Protocol):
    """Where an activation's commits go: the lane of its shard."""

    def mark_dirty(self, source: Committable) -> None: ...

    def alarm_changed(
        self, claim: Claim, object_id: UUID, alarm: Alarm | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class SqlTarget:
    """Whose schema a statement runs in, and the proof of owning it.

    ``schema`` is None until the object has issued SQL: then it is made.
    """

    claim: Claim
    object_id: UUID
    row: ObjectRow
    schema: str | None


class SqlTransaction(Protocol):
    """A fenced database transaction in an agent's schema."""

    @property
    def schema(self) -> str: ...

    async def run(self, statement: Any, params: Sequence[object]) -> SqlResult: ...

    def orm(self) -> AbstractAsyncContextManager[Any]:
        """A SQLAlchemy session in the transaction; its end flushes, no more."""

    async def commit(self, writes: WriteSet) -> None: ...

    async def roll_back(self) -> None: ...


class SqlRunner(Protocol):
    """Runs an agent's SQL in its own schema, off the lane.

    ``run`` commits the write set with the statement. Errors: SqlError (rolled back,
    nothing written), CommitUnknown, CommitFailed (the shard has another owner).
    """

    async def run(
        self,
        target: SqlTarget,
        statement: Any,
        params: Sequence[object],
        writes: WriteSet,
    ) -> SqlResult: ...

    async def begin(self, target: SqlTarget) -> SqlTransaction: ...

    async def drop_schema(self, target: SqlTarget, writes: WriteSet) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOptions:
    """What an object wants of all its sockets.

    ``auto_response``: (request, response), texts that who holds the socket answers by
    itself. ``event_seconds``: how long a handler may take.
    """

    auto_response: tuple[str, str] | None = None
    event_seconds: float | None = None


NO_OPTIONS = SocketOptions()


@dataclass(frozen=True, slots=True)
class Kept:
    """What the object keeps with a socket, for its next owner."""

    tags: tuple[str, ...] = ()
    # As the codec writes it.
    attachment: str | bytes | None = None
    options: SocketOptions = NO_OPTIONS


class SocketPort(Protocol):
    """The front end's end of one client socket. Calls neither block nor raise."""

    def accepted(self, object_id: DurableObjectId, record: Any) -> None: ...

    def send(self, frame: Frame) -> None: ...

    def take_back(self) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def keep(self, kept: Kept) -> None:
        """Have this at hand for the object's next owner."""

    def acknowledged(self) -> None:
        """The effects of one of its messages have left."""


class Frame:
    """One message to client sockets; encoded for the wire once, for all of them.

    ``coalesce`` frames carry the whole of something: a newer one makes an older one,
    still unsent to a slow reader, superfluous.
    """

    __slots__ = ("coalesce", "payload", "text", "wire")

    def __init__(
        self, payload: bytes, *, text: bool = True, coalesce: bool = False
    ) -> None:
        self.payload = payload
        self.text = text
        self.coalesce = coalesce
        self.wire: bytes | None = None


class Timer(Protocol):
    """Runs a node's periodic work; a run that is late is not made up."""

    def every(
        self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None: ...


class Invoker(Protocol):
    """Delivers calls to whichever worker owns the object."""

    async def fetch(self, target: DurableObjectId, request: Any, props: Any) -> Any: ...

    async def call(
        self,
        target: DurableObjectId,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        props: Any,
    ) -> Any: ...
