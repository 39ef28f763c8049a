"""What one commit of one object will write."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from durable.domain.alarms import Alarm

# A stored value: JSON text, or bytes. None in a write set means delete.
Stored = str | bytes

# One (space, key) of an object's storage. 'user' is the object's own space.
Slot = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """The proof of owning a shard: sent with every write, checked in the commit.

    ``trials_until``: its former owner fell; until then (by the machine's clock) wakes
    of its objects are written down.
    """

    shard: int
    epoch: int
    claim_id: UUID
    trials_until: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """The row that a commit adds for an object that Postgres doesn't know yet."""

    tag: int
    name: str | None


class Unchanged:
    """Not written."""


UNCHANGED = Unchanged()


class WriteSet:
    """The writes of one object since its last commit; the last write to a slot wins.

    ``issues`` counts how often the output gate was told of new writes for this set:
    so many steps does its commit open the gate.
    """

    __slots__ = ("alarm", "bytes", "create", "issues", "rows", "wipe")

    def __init__(self) -> None:
        self.issues = 0
        self.rows: dict[Slot, Stored | None] = {}
        self.wipe = False
        # The alarm to set; None to delete it.
        self.alarm: Alarm | Unchanged | None = UNCHANGED
        self.create: ObjectRow | None = None
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self.rows) or self.wipe or self.alarm is not UNCHANGED

    @property
    def needs_row(self) -> bool:
        """Whether this leaves something behind that belongs to an object's row."""
        return isinstance(self.alarm, Alarm) or any(
            value is not None for value in self.rows.values()
        )

    def put(self, slot: Slot, value: Stored) -> None:
        """Write a value."""
        self.bytes += len(value) - len(self.rows.get(slot) or "")
        self.rows[slot] = value

    def delete(self, slot: Slot) -> None:
        """Delete a value."""
        self.bytes -= len(self.rows.get(slot) or "")
        self.rows[slot] = None

    def delete_all(self) -> None:
        """Forget all before; everything stored goes, in every space."""
        self.rows.clear()
        self.bytes = 0
        self.wipe = True
        self.alarm = UNCHANGED
        self.create = None

    def merge(self, later: WriteSet) -> None:
        """Add the writes of a later set, as if they had been made here."""
        if later.wipe:
            self.delete_all()
        for slot, value in later.rows.items():
            if value is None:
                self.delete(slot)
            else:
                self.put(slot, value)
        if later.alarm is not UNCHANGED:
            self.alarm = later.alarm
        self.issues += later.issues
        if later.create is not None:
            self.create = later.create
