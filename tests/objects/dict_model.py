"""A plain dict beside an object's storage, for tasks that run at the same time.

``Life`` is what one activation must show: a dict that is changed where the storage is,
at the call, and its past. A read that suspends may give any state that the dict has had
since it was asked. What Postgres has at the end of a life is the dict at one of the
moments at which code was suspended (writes between two of these are one commit), and
none before the last that was acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from itertools import count
from typing import Any

from durable.domain.errors import NestedTransaction, ValueRefused

Step = tuple[Any, ...]


class RollBack(Exception):
    pass


class Life:
    """The dict of one activation, begun with what was stored."""

    def __init__(self, stored: dict[str, int]) -> None:
        self.now = dict(stored)
        # All states so far, for reads.
        self.past = [dict(stored)]
        # The states that may be what Postgres has, in order.
        self.points = [dict(stored)]
        self.acknowledged = 0
        self.is_over = False
        # While a transaction is open: what a roll-back restores, None for no value.
        self._undo: dict[str, int | None] | None = None

    def write(self, changes: dict[str, int | None], *, inside: bool) -> None:
        """Change some keys at once; None removes one."""
        for key, value in changes.items():
            if self._undo is not None:
                if inside:
                    self._undo.setdefault(key, self.now.get(key))
                else:
                    # It stays, whatever becomes of the transaction.
                    self._undo.pop(key, None)
            self._set(key, value)
        self.past.append(dict(self.now))

    def clear(self) -> None:
        self.now.clear()
        self.past.append({})

    def begin(self) -> None:
        self._undo = {}

    def end(self, *, rolls_back: bool) -> None:
        undo, self._undo = self._undo or {}, None
        if rolls_back:
            for key, value in undo.items():
                self._set(key, value)
            self.past.append(dict(self.now))

    def suspended(self) -> int:
        """Code waits: what was written so far may be committed. The moment's number."""
        committed = dict(self.now)
        for key, value in (self._undo or {}).items():
            if value is None:
                committed.pop(key, None)
            else:
                committed[key] = value
        if committed != self.points[-1]:
            self.points.append(committed)
        return len(self.points) - 1

    def acknowledge(self, moment: int) -> None:
        self.acknowledged = max(self.acknowledged, moment)

    def check_end(self, stored: dict[str, int]) -> None:
        """Whether this may be what is left of the life."""
        self.suspended()
        assert stored in self.points[self.acknowledged :], (
            f"stored {stored}, after {self.points[self.acknowledged :]}"
        )

    def since(self, begun: int, key: str) -> set[int | None]:
        """The values that a key has had."""
        return {state.get(key) for state in self.past[begun:]}

    def _set(self, key: str, value: int | None) -> None:
        if value is None:
            self.now.pop(key, None)
        else:
            self.now[key] = value


class _Watched:
    """Await something; the life hears when that suspends."""

    def __init__(self, life: Life, work: Awaitable[Any]) -> None:
        self._life = life
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        waiting = self._work.__await__()
        resume: Callable[[], Any] = partial(waiting.send, None)
        while True:
            try:
                awaited = resume()
            except StopIteration as end:
                return end.value
            self._life.suspended()
            try:
                resume = partial(waiting.send, (yield awaited))
            except BaseException as error:  # noqa: BLE001  # it is handed on
                resume = partial(waiting.throw, error)


class Performer:
    """Does steps to a storage and to its life, and compares what they say."""

    def __init__(self, storage: Any, life: Life, numbers: count[int]) -> None:
        self._storage = storage
        self._life = life
        # Each value is written once, so that a stale one shows.
        self._numbers = numbers

    def _wait(self, work: Awaitable[Any]) -> _Watched:
        return _Watched(self._life, work)

    async def run(self, steps: list[Step], *, inside: bool = False) -> int:
        """Do the steps; the moment at the end of the last one."""
        for step in steps:
            name = f"_{step[0].replace(' ', '_')}"
            await getattr(self, name)(*step[1:], inside=inside)
        return self._life.suspended()

    async def _put(self, keys: list[str], inside: bool, **options: bool) -> None:
        values = {key: next(self._numbers) for key in keys}
        writing = self._storage.put(values, **options)
        self._life.write(dict(values), inside=inside)
        await self._wait(writing)

    async def _put_passing(self, keys: list[str], inside: bool) -> None:
        await self._put(keys, inside, no_cache=True)

    async def _delete(self, keys: list[str], inside: bool) -> None:
        there = sum(key in self._life.now for key in set(keys))
        deleting = self._storage.delete(keys)
        self._life.write(dict.fromkeys(keys), inside=inside)
        assert await self._wait(deleting) == there

    async def _get(self, key: str, inside: bool, **options: bool) -> None:
        begun = len(self._life.past) - 1
        found = await self._wait(self._storage.get(key, **options))
        assert found in self._life.since(begun, key), key

    async def _get_passing(self, key: str, inside: bool) -> None:
        await self._get(key, inside, no_cache=True, allow_concurrency=True)

    async def _get_many(self, keys: list[str], inside: bool) -> None:
        begun = len(self._life.past) - 1
        found = await self._wait(self._storage.get(keys))
        assert list(found) == sorted(found)
        for key in keys:
            assert found.get(key) in self._life.since(begun, key), key

    async def _list(
        self,
        start: str | None,
        end: str | None,
        prefix: str | None,
        reverse: bool,
        limit: int | None,
        inside: bool,
    ) -> None:
        life, begun = self._life, len(self._life.past) - 1
        found = await self._wait(
            self._storage.list(
                start=start, end=end, prefix=prefix, reverse=reverse, limit=limit
            )
        )
        assert list(found) == sorted(found, reverse=reverse)
        assert limit is None or len(found) <= limit
        full = limit is not None and len(found) == limit
        last = list(found)[-1] if found else ""
        for key in {key for state in life.past[begun:] for key in state} | {*found}:
            wanted = (
                (start is None or key >= start)
                and (end is None or key < end)
                and (prefix is None or key.startswith(prefix))
            )
            beyond = full and (key < last if reverse else key > last)
            if not wanted or beyond:
                assert key not in found
            else:
                assert found.get(key) in life.since(begun, key), key

    async def _delete_all(self, inside: bool) -> None:
        try:
            deleting = self._storage.delete_all()
        except ValueRefused:
            return  # a transaction is open
        self._life.clear()
        await self._wait(deleting)

    async def _pause(self, turns: int, inside: bool) -> None:
        """Wait for something else than storage."""
        for _ in range(turns):
            await self._wait(asyncio.sleep(0))

    async def _sync(self, inside: bool) -> None:
        moment = self._life.suspended()
        await self._wait(self._storage.sync())
        self._life.acknowledge(moment)

    async def _transaction(
        self, steps: list[Step], rolls_back: bool, inside: bool
    ) -> None:
        try:
            async with self._storage.transaction():
                self._life.begin()
                try:
                    await self.run(steps, inside=True)
                except BaseException:
                    self._life.end(rolls_back=True)
                    raise
                self._life.end(rolls_back=rolls_back)
                if rolls_back:
                    raise RollBack
        except (RollBack, NestedTransaction):
            return
