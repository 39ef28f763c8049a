"""The one alarm of an object, as its code sees it and as its next commit writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from durable.domain.writes import UNCHANGED

if TYPE_CHECKING:
    from durable.domain.alarms import Alarm
    from durable.domain.writes import WriteSet


class AlarmWrites(Protocol):
    """Where a change of the alarm goes: to what is pending, or to a transaction."""

    open_transaction: WriteSet | None

    def writes_here(self, *, confirmed: bool = True) -> WriteSet:
        """The write set for the running code."""


class AlarmSlot:
    """Set, running, or empty."""

    __slots__ = ("_before", "_running", "_set", "_writes")

    def __init__(self, writes: AlarmWrites) -> None:
        self._writes = writes
        self._set: Alarm | None = None
        # While alarm() runs: the one it runs for, until something replaces it.
        self._running: Alarm | None = None
        self._before: tuple[Alarm | None, Alarm | None] = (None, None)

    @property
    def due(self) -> Alarm | None:
        """The alarm that is set; None while it runs, unless a new one was set."""
        return None if self._running is not None else self._set

    def loaded(self, alarm: Alarm | None) -> None:
        """What the row says, or that it is gone."""
        self._set, self._running = alarm, None

    def set(self, alarm: Alarm | None, *, confirmed: bool = True) -> None:
        """Set or delete the alarm; what runs for the old one gets no retry."""
        writes = self._writes.writes_here(confirmed=confirmed)
        writes.alarm = alarm
        self.loaded(alarm)
        beside = self._writes.open_transaction
        if beside is not None and writes is not beside:
            # By a handler that ran before the transaction: it stays, whatever becomes
            # of that, and replaces what that has set.
            beside.alarm = UNCHANGED
            self._before = (alarm, None)

    def begins(self, alarm: Alarm) -> None:
        """``alarm()`` runs for this one."""
        self._set = self._running = alarm

    def ended(self, retry: Alarm | None) -> None:
        """``alarm()`` has ended: its row goes, or waits for the retry."""
        if self._running is not None:
            self.set(retry)

    def begin_transaction(self) -> None:
        """Remember what a roll-back comes back to."""
        self._before = (self._set, self._running)

    def roll_back(self) -> None:
        """Forget what the transaction did."""
        self._set, self._running = self._before
