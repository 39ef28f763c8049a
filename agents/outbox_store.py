"""Messages to other agents as rows, numbered for each pair of agents.

``epoch`` tells the sender's lives apart: one that was deleted begins to count anew,
with a later epoch.
"""

from __future__ import annotations

import msgspec

from agents.jobs import new_id
from agents.work_rows import Rows, RowStorage
from durable import KeyRange

SPACE = "work-outbox"
PAIRS_SPACE = "work-outbox-pairs"
PAGE = 32


class PairRow(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What is known of an agent that was sent something; times are milliseconds."""

    tag: int
    id: str
    name: str | None = None
    epoch: str
    # The number of the last message.
    last: int = 0
    # It couldn't be reached so often in a row, and is tried again then.
    failures: int = 0
    again: int = 0


class MessageRow(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A message that wasn't acknowledged yet."""

    method: str
    args: msgspec.Raw
    created: int
    attempts: int = 0


class MessageOrigin(msgspec.Struct, kw_only=True):
    """What a dead letter keeps of a message."""

    tag: int
    id: str
    name: str | None
    method: str
    args: msgspec.Raw


class OutboxStore:
    """The outbox of one agent."""

    __slots__ = ("messages", "pairs")

    def __init__(self, storage: RowStorage) -> None:
        self.messages = Rows(storage, SPACE, MessageRow)
        self.pairs = Rows(storage, PAIRS_SPACE, PairRow)

    async def append(self, message: MessageOrigin, now: int) -> str:
        """Add a message; returns its key. Takes effect without a further await."""
        await self.pairs.get(message.id)
        pair = self.pairs.known(message.id)
        if pair is None:
            epoch = f"{now:015d}{new_id()}"
            pair = PairRow(
                tag=message.tag, id=message.id, name=message.name, epoch=epoch
            )
        pair.last += 1
        self.pairs.put(pair.id, pair)
        key = f"{pair.id}:{pair.last:015d}"
        row = MessageRow(method=message.method, args=message.args, created=now)
        self.messages.put(key, row)
        return key

    async def restore(self, origin: msgspec.Raw, now: int) -> None:
        """Add a message that was removed once more, as a new one."""
        await self.append(msgspec.json.decode(origin, type=MessageOrigin), now)

    async def waiting(self) -> list[PairRow]:
        """The agents for which there is something."""
        found: list[PairRow] = []
        after = ""
        while page := await self.messages.page(after, limit=1):
            id = next(iter(page)).partition(":")[0]
            pair = await self.pairs.get(id)
            assert pair is not None  # written in the commit of its first message
            found.append(pair)
            # ';' follows ':': the next agent's messages.
            after = f"{id};"
        return found

    async def to(self, id: str) -> list[str]:
        """The keys of the first messages to an agent, in order."""
        wanted = KeyRange(start=f"{id}:", end=f"{id};", limit=PAGE)
        return [*await self.messages.space.list_raw(wanted)]
