"""The stored messages of a chat: numbered rows, of which the newest are in memory.

Promise: waking up costs the same however long the history is. ``messages`` has the
newest; all others are read when a client sends its own transcript, or wants ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from agents.chat import protocol
from agents.chat.transcript_rules import Message
from agents.work_rows import PAGE, Counter, RowStorage
from durable import KeyRange, json_text

SPACE = "chat-messages"


class Transcript:
    """The messages of one chat, the oldest first."""

    __slots__ = (
        "_keys",
        "_knows_all",
        "_number",
        "_raws",
        "_sent",
        "_space",
        "_window",
        "has_older",
        "messages",
    )

    def __init__(
        self, storage: RowStorage, window: int, sent: Callable[[bytes], bytes]
    ) -> None:
        """``sent``: a stored message as clients are to get it."""
        self._sent = sent
        self._space = storage.space(SPACE)
        self._number = Counter(storage, "chat-messages")
        self._window = window
        # The newest, as many as the window has room for.
        self.messages: list[Message] = []
        # The rows of those that are known, in order; as stored, those of ``messages``.
        self._keys: dict[str, str] = {}
        self._raws: dict[str, bytes] = {}
        # Whether there are more than are in memory; whether the ids of all are known.
        self.has_older = False
        self._knows_all = False

    async def load(self) -> None:
        """Read the newest."""
        wanted = KeyRange(reverse=True, limit=self._window + 1)
        rows = await self._space.list_raw(wanted)
        newest = [*rows.items()][: self._window]
        self.has_older = len(rows) > self._window
        self._knows_all = not self.has_older
        for key, stored in reversed(newest):
            self._remember(key, _bytes(stored))
        # Known from now on: messages are numbered without an await.
        await self._number.get()

    async def raw_pages(self) -> AsyncIterator[list[bytes]]:
        """All messages as clients get them, page by page."""
        after = ""
        while True:
            wanted = KeyRange(start=after and after + "\x01", limit=PAGE)
            rows = await self._space.list_raw(wanted)
            yield [self._sent(_bytes(stored)) for stored in rows.values()]
            if len(rows) < PAGE:
                return
            after = next(reversed(rows))

    async def read_all(self) -> list[Message]:
        """All messages; from now on every one is known by its id."""
        if not self.has_older:
            return self.messages
        found, keys, after = list[Message](), dict[str, str](), ""
        while True:
            wanted = KeyRange(start=after and after + "\x01", limit=PAGE)
            rows = await self._space.list_raw(wanted)
            for key, stored in rows.items():
                message = json_text.loads(stored)
                found.append(message)
                keys[message["id"]] = key
            if len(rows) < PAGE:
                break
            after = next(reversed(rows))
        self._keys, self._knows_all = keys, True
        return found

    async def all_raw(self) -> list[bytes]:
        """All messages as clients get them."""
        if not self.has_older:
            raws = (self._raws[message["id"]] for message in self.messages)
            return [self._sent(raw) for raw in raws]
        return [raw async for page in self.raw_pages() for raw in page]

    def raw(self, id: str) -> bytes:
        """A message of ``messages``, as JSON."""
        return self._raws[id]

    def last_answer(self) -> Message | None:
        """The last message, if it is the assistant's."""
        last = self.messages[-1] if self.messages else None
        return last if last is not None and last["role"] == "assistant" else None

    def put(self, message: Message, after: str | None = None) -> bool:
        """Write a message: in its place if its id is known, else at the end.

        ``after``: a new one stands behind the message of this id, if that is known.
        False if nothing changes. After ``read_all`` all ids are known.

        Raises:
            ValueRefused: it isn't JSON.
        """
        id = message["id"]
        raw = protocol.stored(message)
        if raw == self._raws.get(id):
            return False
        key = self._keys.get(id) or self._new_key(after)
        # The newest are in ``messages``; a long history isn't to be in memory.
        self._space.put_raw(key, raw.decode(), no_cache=True)
        self._remember(key, raw)
        return True

    def delete(self, ids: Iterable[str]) -> None:
        """Delete messages; unknown ids are nothing."""
        gone = set(ids)
        for id in gone:
            key = self._keys.pop(id, None)
            if key is not None:
                self._space.delete(key)
                self._raws.pop(id, None)
        self.messages = [m for m in self.messages if m["id"] not in gone]

    def trim(self, limit: int | None) -> None:
        """Delete the oldest, until so many are left; not before all are known."""
        if limit is not None and self._knows_all and len(self._keys) > limit:
            self.delete([*self._keys][: len(self._keys) - limit])

    async def clear(self) -> None:
        """Delete all."""
        await self.read_all()
        self.delete([*self._keys])
        self.has_older = False

    def _new_key(self, after: str | None) -> str:
        number = f"{self._number.add_now(1):012d}"
        before = self._keys.get(after or "")
        if before is None or before == next(reversed(self._keys.values())):
            return number
        # Between that one and the next.
        return f"{before}-{number}"

    def _insert(self, key: str, message: Message) -> None:
        place = len(self.messages)
        while place and self._keys[self.messages[place - 1]["id"]] > key:
            place -= 1
        if place < len(self.messages):
            self._keys = dict(sorted(self._keys.items(), key=lambda row: row[1]))
        self.messages.insert(place, message)

    def _remember(self, key: str, raw: bytes) -> None:
        message = json_text.loads(raw)
        id = message["id"]
        known = self._keys.get(id)
        self._keys[id] = key
        if known is None:
            self._insert(key, message)
        elif id in self._raws:
            place = next(n for n, m in enumerate(self.messages) if m["id"] == id)
            self.messages[place] = message
        else:
            # Older than what is in memory.
            return
        self._raws[id] = raw
        while len(self.messages) > self._window:
            self._raws.pop(self.messages.pop(0)["id"])
            self.has_older = True


def _bytes(stored: Any) -> bytes:
    return stored.encode() if isinstance(stored, str) else bytes(stored)
