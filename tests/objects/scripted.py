"""Objects on a store that does what the test says: holds, fails or loses a commit.

The real dispatcher, router and activations; under them rows in a dict. No database, no
sockets, and nothing sleeps: ``turns`` lets the loop go round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from durable.domain.alarms import Alarm
from durable.domain.errors import CommitUnknown, SqlError
from durable.domain.ids import DurableObjectId
from durable.domain.ports import (
    Committable,
    Frame,
    Kept,
    KeyRange,
    Loaded,
    SqlTarget,
)
from durable.domain.sql_result import SqlResult
from durable.domain.writes import Claim, Slot, Stored, WriteSet
from durable.objects.activation_context import ActivationContext
from durable.objects.cache import in_order
from durable.objects.cache_budget import CacheBudget
from durable.objects.durable_object import DurableObject
from durable.objects.env import Env
from durable.objects.http import Request
from durable.objects.namespace import DurableObjectNamespace
from durable.objects.websocket import SocketRecord, SocketTable
from durable.routing.router import Router
from durable.routing.shard_map import ShardMap
from durable.worker.dispatcher import Dispatcher, Ownership

SHARDS = 16
TAG = 7


async def turns(count: int = 30) -> None:
    """Let the event loop go round, so that whatever can go on goes on."""
    for _ in range(count):
        await asyncio.sleep(0)


class Rows:
    """What "Postgres" has, and the Reader of it."""

    def __init__(self) -> None:
        self.kv: dict[UUID, dict[Slot, Stored]] = {}
        self.names: dict[UUID, str | None] = {}
        self.schemas: dict[UUID, str] = {}
        self.alarms: dict[UUID, Alarm] = {}
        # A load brings so many rows.
        self.first = 64
        self.reads: list[str] = []
        # So many turns of the loop pass before a read sees what there is.
        self.latency = 0
        self.drains = 0
        self.failure: Exception | None = None
        self._open = asyncio.Event()
        self._open.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Reads don't come back inside."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def apply(self, object_id: UUID, writes: WriteSet) -> None:
        if writes.wipe:
            self.kv.pop(object_id, None)
            self.names.pop(object_id, None)
            self.alarms.pop(object_id, None)
        if isinstance(writes.alarm, Alarm):
            self.alarms[object_id] = writes.alarm
        elif writes.alarm is None:
            self.alarms.pop(object_id, None)
        if writes.create is not None:
            self.names.setdefault(object_id, writes.create.name)
        rows = self.kv.setdefault(object_id, {})
        for slot, value in writes.rows.items():
            if value is None:
                rows.pop(slot, None)
            else:
                assert object_id in self.names, "a row of an object that isn't there"
                rows[slot] = value

    async def _read(self, what: str) -> None:
        self.reads.append(what)
        await self._open.wait()
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure

    async def load(self, shard: int, object_id: UUID) -> Loaded:
        await self._read("load")
        rows = dict(sorted(self.kv.get(object_id, {}).items())[: self.first])
        return Loaded(
            exists=object_id in self.names,
            name=self.names.get(object_id),
            sql_schema=self.schemas.get(object_id),
            rows=rows,
            complete=len(rows) == len(self.kv.get(object_id, {})),
            alarm=self.alarms.get(object_id),
        )

    async def get(
        self, shard: int, object_id: UUID, space: str, keys: Sequence[str]
    ) -> dict[str, Stored]:
        await turns(self.latency)
        # As a snapshot; the answer comes later.
        rows = self.kv.get(object_id, {})
        found = {key: rows[space, key] for key in keys if (space, key) in rows}
        await self._read("get")
        return found

    async def scan(
        self, shard: int, object_id: UUID, space: str, key_range: KeyRange
    ) -> dict[str, Stored]:
        await turns(self.latency)
        rows = self.kv.get(object_id, {})
        mine = [(key, value) for (at, key), value in rows.items() if at == space]
        found = in_order(mine, key_range)
        await self._read("scan")
        return found

    async def size(self, shard: int, object_id: UUID, schema: str | None) -> int:
        await self._read("size")
        return sum(len(value) for value in self.kv.get(object_id, {}).values())

    async def drain(self, shard: int) -> None:
        self.drains += 1
        await self._read("drain")


class Lane:
    """A CommitLog that acknowledges a turn later, or when it is told to."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.fresh = True
        self.in_flight: list[tuple[Committable, WriteSet]] = []
        self.commits: list[WriteSet] = []
        self._held = False
        self._dirty: list[Committable] = []
        self._when_fresh: list[Callable[[], None]] = []

    def is_fresh(self) -> bool:
        return self.fresh

    def when_fresh(self, callback: Callable[[], None]) -> None:
        self._when_fresh.append(callback)

    def heard(self) -> None:
        self.fresh = True
        callbacks, self._when_fresh = self._when_fresh, []
        for callback in callbacks:
            callback()

    def mark_dirty(self, source: Committable) -> None:
        self._dirty.append(source)
        asyncio.get_running_loop().call_soon(self._send)

    def alarm_changed(self, claim: Claim, object_id: UUID, alarm: object) -> None:
        pass

    def hold(self) -> None:
        """Acknowledge nothing from now on."""
        self._held = True

    def release(self) -> None:
        """What is under way lands and is acknowledged."""
        self._held = False
        in_flight, self.in_flight = self.in_flight, []
        for source, writes in in_flight:
            self._land(source, writes)
            source.committed()

    def fail(self, error: Exception) -> None:
        """What is under way is refused."""
        self._held = False
        in_flight, self.in_flight = self.in_flight, []
        for source, _ in in_flight:
            source.commit_failed(error)

    def lose(self, *, landed: bool) -> None:
        """The acknowledgement of what is under way is lost."""
        for source, writes in self.in_flight:
            if landed:
                self._land(source, writes)
        self.fail(CommitUnknown("lost"))

    def _send(self) -> None:
        dirty, self._dirty = self._dirty, []
        for source in dirty:
            writes = source.take_writes()
            if writes is not None:
                self.in_flight.append((source, writes))
        if not self._held:
            asyncio.get_running_loop().call_soon(self._acknowledge)

    def _acknowledge(self) -> None:
        if not self._held:
            self.release()

    def _land(self, source: Committable, writes: WriteSet) -> None:
        self.commits.append(writes)
        self.rows.apply(source.object_id, writes)


class Sql:
    """Statements are told what to do: "ok", "bad" (SqlError), "hang"."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.log: list[str] = []
        self.failure: BaseException | None = None
        self.hanging = asyncio.Event()

    async def run(
        self,
        target: SqlTarget,
        statement: Any,
        params: Sequence[object],
        writes: WriteSet,
    ) -> SqlResult:
        if not isinstance(statement, str):
            raise TypeError("a statement is a str")
        result = await self.statement(statement)
        self._commit(target, writes)
        return result

    async def begin(self, target: SqlTarget) -> SqlTransaction:
        self.log.append("begin")
        return SqlTransaction(self, target)

    async def drop_schema(self, target: SqlTarget, writes: WriteSet) -> None:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.log.append("drop")
        self.rows.schemas.pop(target.object_id, None)
        self.rows.apply(target.object_id, writes)

    async def statement(self, statement: str) -> SqlResult:
        self.log.append(statement)
        await asyncio.sleep(0)
        if statement == "hang":
            await self.hanging.wait()
        if statement == "bad":
            raise SqlError("refused", query=statement)
        if self.failure is not None:
            raise self.failure
        return SqlResult((), (), schema="agent_schema")

    def _commit(self, target: SqlTarget, writes: WriteSet) -> None:
        if writes.create is None:
            writes.create = target.row
        self.rows.apply(target.object_id, writes)
        self.rows.schemas[target.object_id] = "agent_schema"


class SqlTransaction:
    def __init__(self, sql: Sql, target: SqlTarget) -> None:
        self._sql = sql
        self._target = target
        self.schema = "agent_schema"

    def orm(self) -> AbstractAsyncContextManager[Any]:
        raise NotImplementedError("there is no SQLAlchemy without a database")

    async def run(self, statement: Any, params: Sequence[object]) -> SqlResult:
        return await self._sql.statement(statement)

    async def commit(self, writes: WriteSet) -> None:
        self._sql.log.append("commit")
        await asyncio.sleep(0)
        if self._sql.failure is not None:
            raise self._sql.failure
        if "hang at commit" in self._sql.log:
            await self._sql.hanging.wait()
        self._sql._commit(self._target, writes)

    async def roll_back(self) -> None:
        self._sql.log.append("roll back")


@dataclass
class Port:
    """A client's socket, as the front end would hold it."""

    said: list[str] = field(default_factory=list)
    closed: tuple[int, str] | None = None
    object_id: DurableObjectId | None = None
    record: Any = None
    kept: Kept = field(default_factory=Kept)
    done: int = 0

    def accepted(self, object_id: DurableObjectId, record: Any) -> None:
        self.object_id, self.record = object_id, record

    def send(self, frame: Frame) -> None:
        self.said.append(frame.payload.decode())

    def take_back(self) -> None:
        self.said.clear()

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)

    def keep(self, kept: Kept) -> None:
        self.kept = kept

    def acknowledged(self) -> None:
        self.done += 1


class Healthy:
    """The trials of a worker none of whose shards' owners has fallen."""

    async def begin(self, claim: Claim, object_id: UUID, wakes: int) -> bool:
        return False

    def end(self, claim: Claim, object_id: UUID) -> None:
        raise AssertionError("nothing is on trial")


class Place:
    """A worker's worth of objects of one class, ``Thing``, on scripted floors."""

    def __init__(
        self,
        cls: type[DurableObject],
        *,
        start_timeout: float = 5.0,
        max_waiting: int = 1000,
        max_value_bytes: int = 1 << 20,
        cache_bytes: int = 1 << 20,
    ) -> None:
        self.budget = CacheBudget(per_object=cache_bytes, limit=4 * cache_bytes)
        self.rows = Rows()
        self.lane = Lane(self.rows)
        self.sql = Sql(self.rows)
        self.sockets = SocketTable()
        self.env = Env({})
        self.owned = True

        def claim_of(shard: int) -> Claim | None:
            return Claim(shard, 1, UUID(int=1)) if self.owned else None

        async def shard_owners() -> list[tuple[int, UUID | None]]:
            return []

        self.dispatcher = Dispatcher(
            classes={TAG: cls},
            ownership=Ownership(
                shards=SHARDS, claim_of=claim_of, lane=lambda: self.lane
            ),
            make_context=lambda on_gone: ActivationContext(
                env=self.env,
                reader=self.rows,
                sql=self.sql,
                sockets=self.sockets,
                trials=Healthy(),
                start_timeout=start_timeout,
                on_gone=on_gone,
                budget=self.budget,
                max_value_bytes=max_value_bytes,
            ),
            max_waiting=max_waiting,
        )
        router = Router(
            self.dispatcher,
            ShardMap(shard_owners),
            shards=SHARDS,
            patience=0.1,
        )
        self.things = DurableObjectNamespace("Thing", cls, TAG, router)
        self.env.namespaces["Thing"] = self.things

    def stub(self, name: str = "a") -> Any:
        return self.things.get_by_name(name)

    def stored(self, name: str = "a", space: str = "user") -> dict[str, Stored]:
        """What "Postgres" has of an object."""
        rows = self.rows.kv.get(self.things.id_from_name(name).value, {})
        return {key: value for (at, key), value in sorted(rows.items()) if at == space}

    def keep(self, values: dict[str, Any], name: str = "a") -> None:
        """Put rows into "Postgres"."""
        found = self.things.id_from_name(name)
        self.rows.names[found.value] = name
        kept = self.rows.kv.setdefault(found.value, {})
        kept.update({("user", key): str(value) for key, value in values.items()})

    async def evict(self) -> int:
        """Evict what is idle."""
        return await self.dispatcher.evict_idle(0)

    async def connect(self, name: str = "a") -> Port:
        """Open a socket to an object whose ``fetch`` accepts it."""
        port = Port()
        request = Request("GET", "http://x/", headers={"Upgrade": "websocket"})
        request.socket_port = port
        response = await self.stub(name).fetch(request)
        assert response.status == 101
        await turns()
        return port

    def message(self, port: Port, text: str) -> None:
        assert port.object_id is not None
        record: SocketRecord = port.record
        self.dispatcher.socket_message(port.object_id, record, text)
