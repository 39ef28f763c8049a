"""Storage of one object: async KV over a cache, written back in atomic commits.

Writes take effect in memory at the call and may be awaited or not; all writes with no
await on anything but storage writes between them are one commit. Reads that the cache
answers don't suspend; others shut the input gate while they wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from durable.domain.alarms import Alarm, due_time
from durable.domain.clock import wall
from durable.domain.errors import ValueRefused
from durable.domain.ports import KeyRange
from durable.objects import codec
from durable.objects.cache import USER_SPACE, in_order
from durable.objects.keys import check_count, check_key, check_size, key_range

if TYPE_CHECKING:
    from durable.domain.sql_result import SqlResult
    from durable.domain.writes import Stored
    from durable.objects.activation import Activation
    from durable.objects.transaction import Transaction
    from durable.objects.write_back import WriteBack

T = TypeVar("T")


class Done(Generic[T]):
    """A result that is there already: awaiting it doesn't suspend."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, T]:
        return self._value
        yield


_NOTHING = Done(None)


class Space:
    """A part of an object's KV: ``user`` is its own, other names are an SDK's.

    A space's rows are invisible in other spaces' ``list``; ``delete_all`` clears all.
    """

    __slots__ = ("_rows", "name")

    def __init__(self, rows: WriteBack, name: str) -> None:
        self._rows = rows
        self.name = name

    @overload
    def get(
        self, key: str, *, allow_concurrency: bool = ..., no_cache: bool = ...
    ) -> Awaitable[Any]: ...
    @overload
    def get(
        self, key: Iterable[str], *, allow_concurrency: bool = ..., no_cache: bool = ...
    ) -> Awaitable[dict[str, Any]]: ...
    def get(
        self,
        key: str | Iterable[str],
        *,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Awaitable[Any]:
        """Read a value, None if there is none; or several, missing ones left out.

        Several (up to 128) come as a dict in the order of the keys' UTF-8 bytes. What
        you get is a copy: changing it changes nothing stored. ``allow_concurrency``:
        other events may enter while Postgres is asked. ``no_cache``: what it says isn't
        kept in memory.
        """
        if not isinstance(key, str):
            return self._get_many([*key], not allow_concurrency, not no_cache)
        found = self._rows.reads.row(
            (self.name, key), shut=not allow_concurrency, learn=not no_cache
        )
        if isinstance(found, Coroutine):
            return _decoded(key, found)
        return Done(None if found is None else codec.decode(found))

    @overload
    def put(
        self,
        key: str,
        value: Any,
        *,
        allow_concurrency: bool = ...,
        allow_unconfirmed: bool = ...,
        no_cache: bool = ...,
    ) -> Awaitable[None]: ...
    @overload
    def put(
        self,
        key: Mapping[str, Any],
        *,
        allow_concurrency: bool = ...,
        allow_unconfirmed: bool = ...,
        no_cache: bool = ...,
    ) -> Awaitable[None]: ...
    def put(
        self,
        key: str | Mapping[str, Any],
        value: Any = None,
        *,
        allow_concurrency: bool = False,  # a write never shuts the gate
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Awaitable[None]:
        """Write a value, or up to 128 at once.

        ``allow_unconfirmed``: what the object says doesn't wait until it is durable.
        ``no_cache``: when it is durable it isn't kept in memory.

        Raises:
            ValueRefused: a value that can't be stored (the message has the path) or is
                too large, None (use ``delete``), or a bad key. Nothing is written then.
        """
        entries = dict(key) if isinstance(key, Mapping) else {key: value}
        check_count(len(entries))
        encoded = []
        for name, item in entries.items():
            check_key(name)
            if item is None:
                raise ValueRefused(f"{name!r}: None is no value; delete() removes one")
            stored = codec.encode(item)
            check_size(name, stored, self._rows.max_value_bytes)
            encoded.append((name, stored))
        for name, stored in encoded:
            self._rows.write_row(
                (self.name, name),
                stored,
                confirmed=not allow_unconfirmed,
                keep=not no_cache,
            )
        return _NOTHING

    @overload
    def delete(
        self,
        key: str,
        *,
        allow_concurrency: bool = ...,
        allow_unconfirmed: bool = ...,
        no_cache: bool = ...,
    ) -> Awaitable[bool]: ...
    @overload
    def delete(
        self,
        key: Iterable[str],
        *,
        allow_concurrency: bool = ...,
        allow_unconfirmed: bool = ...,
        no_cache: bool = ...,
    ) -> Awaitable[int]: ...
    def delete(
        self,
        key: str | Iterable[str],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Awaitable[bool] | Awaitable[int]:
        """Delete a key: whether it existed; or several (up to 128): how many did.

        Options as in ``get`` and ``put``.
        """
        keys = [key] if isinstance(key, str) else list(key)
        check_count(len(keys))
        for name in keys:
            check_key(name)
        deleted = self._rows.delete_rows(
            self.name,
            keys,
            shut=not allow_concurrency,
            confirmed=not allow_unconfirmed,
            keep=not no_cache,
        )
        return _Existed(deleted) if isinstance(key, str) else deleted

    async def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        allow_concurrency: bool = False,
        no_cache: bool = False,  # what it reads is never kept
    ) -> dict[str, Any]:
        """Entries in the order of their keys' UTF-8 bytes.

        ``start`` is inclusive, ``start_after`` and ``end`` are exclusive; ``reverse``
        turns the order only. Page with ``start_after`` and ``limit``. Options as in
        ``get``.

        Raises:
            ValueRefused: ``start`` with ``start_after``, or a limit below 1.
        """
        wanted = key_range(start, start_after, end, prefix, reverse, limit)
        if wanted is None:
            return {}
        rows = await self._rows.reads.scan(
            self.name, wanted, shut=not allow_concurrency
        )
        return {key: codec.decode(value) for key, value in rows.items()}

    def get_raw(self, key: str) -> Stored | Coroutine[Any, Any, Stored | None] | None:
        """A row as stored; a coroutine when it must be read from Postgres."""
        return self._rows.reads.row((self.name, key))

    def put_raw(self, key: str, stored: Stored, *, no_cache: bool = False) -> None:
        """Write a row that is encoded already: JSON text, or ``codec``'s blob.

        ``no_cache`` as in ``put``.

        Raises:
            ValueTooLarge: nothing is written.
        """
        check_size(key, stored, self._rows.max_value_bytes)
        self._rows.write_row((self.name, key), stored, keep=not no_cache)

    async def list_raw(self, wanted: KeyRange) -> dict[str, Stored]:
        """Rows as stored, in order."""
        return await self._rows.reads.scan(self.name, wanted)

    async def _get_many(
        self, keys: Sequence[str], shut: bool, learn: bool
    ) -> dict[str, Any]:
        check_count(len(keys))
        for key in keys:
            check_key(key)
        rows = await self._rows.reads.rows(self.name, keys, shut=shut, learn=learn)
        ordered = in_order(rows.items(), KeyRange())
        return {key: codec.decode(value) for key, value in ordered.items()}


class DurableObjectStorage(Space):
    """``ctx.storage``: the object's own space, and what concerns all of it."""

    __slots__ = ("_activation",)

    def __init__(self, activation: Activation) -> None:
        super().__init__(activation.rows, USER_SPACE)
        self._activation = activation

    def space(self, name: str) -> Space:
        """A reserved space, for code that builds on objects (an SDK's own rows)."""
        if name == USER_SPACE:
            raise ValueError("'user' is the object's own space: use storage itself")
        return Space(self._rows, name)

    async def sync(self) -> None:
        """Return when every write so far is durable."""
        await self._rows.sync()
        # It gets on, and has written down what it begins: it is no suspect any more.
        self._activation.end_trial()

    def delete_all(self) -> Awaitable[None]:
        """Delete everything stored, in one commit: KV, SQL schema, state, schedules.

        The object lives on; new writes begin anew.

        Raises:
            ValueRefused: while a transaction of the object is open.
        """
        return self._activation.delete_everything()

    async def sql(self, statement: Any, params: Sequence[object] = ()) -> SqlResult:
        """Run a statement in the object's own Postgres schema; its rows, as a list.

        What was written before is committed with it. Several statements may stand in
        one text, separated by ``;``: the parameters belong to the last one.

        Raises:
            SqlError: with the statement and the position; nothing was written.
        """
        result: SqlResult = await self._activation.sql(statement, params)
        return result

    async def database_size(self) -> int:
        """Bytes of all that the object has stored: keys, values, SQL tables, indexes.

        It counts what is committed when it is asked.

        Raises:
            ValueRefused: inside of a transaction, which may have locked its tables.
        """
        if self._rows.is_inside:
            raise ValueRefused("database_size() can't be asked inside a transaction")
        return await self._rows.reads.size(self._activation.object_sql.schema)

    def orm(self) -> AbstractAsyncContextManager[Any]:
        """``async with storage.orm() as session:`` SQLAlchemy in the object's schema.

        The session is an ``AsyncSession``. What it does, what ``sql`` does inside and
        what is written to the object commit together at the end of the block, or not
        at all; a transaction that is open already is joined. ``session.commit()`` and
        ``rollback()`` work on a savepoint inside of it.

        Raises:
            sqlalchemy.exc.DBAPIError: a statement was refused (``__cause__`` says why).
            DurableError: the activation was reset.
        """
        return self._activation.object_sql.orm(self._activation)

    def set_alarm(
        self,
        when: datetime | timedelta | float,
        *,
        allow_concurrency: bool = False,  # a write never shuts the gate
        allow_unconfirmed: bool = False,
    ) -> Awaitable[None]:
        """Wake the object at a time, by calling ``alarm()``; replaces an earlier one.

        ``when``: an aware datetime, seconds since the epoch, or a timedelta from now. A
        past time is as soon as possible. It runs at least once, never early; if it
        raises, it is tried again after 2 s, 4, 8 … six times. Options as in ``put``.

        Raises:
            TypeError: the class has no ``alarm``.
            ValueError: a naive datetime, or no time after 1970.
        """
        if not self._activation.has_alarm_hook:
            raise TypeError("the class has no alarm() method to wake")
        alarm = Alarm(due_time(when, wall.now()))
        self._rows.alarm.set(alarm, confirmed=not allow_unconfirmed)
        return _NOTHING

    def get_alarm(
        self,
        *,
        allow_concurrency: bool = False,  # it is in memory
    ) -> Awaitable[datetime | None]:
        """When the alarm is due; None if none is set, or while it runs."""
        alarm = self._rows.alarm.due
        return Done(None if alarm is None else datetime.fromtimestamp(alarm.due, UTC))

    def delete_alarm(
        self,
        *,
        allow_concurrency: bool = False,  # a write never shuts the gate
        allow_unconfirmed: bool = False,
    ) -> Awaitable[None]:
        """Unset the alarm; a run in progress goes on, but isn't tried again."""
        self._rows.alarm.set(None, confirmed=not allow_unconfirmed)
        return _NOTHING

    def transaction(self) -> Transaction:
        """``async with storage.transaction():`` what is written in it commits together.

        KV, state and SQL. No other event enters meanwhile. An exception rolls all of
        it back, memory too, and goes on to the caller; the object lives on.
        ``as txn: txn.rollback()`` does the same without one.
        """
        return self._activation.transaction()


async def _decoded(key: str, reading: Coroutine[Any, Any, Stored | None]) -> Any:
    try:
        check_key(key)
        found = await reading
    finally:
        reading.close()
    return None if found is None else codec.decode(found)


class _Existed:
    """Whether a deletion found something."""

    __slots__ = ("_count",)

    def __init__(self, count: Awaitable[int]) -> None:
        self._count = count

    def __await__(self) -> Generator[Any, None, bool]:
        return (yield from self._count.__await__()) > 0
