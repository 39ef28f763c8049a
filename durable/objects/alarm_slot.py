"""The one alarm of an object, as its code sees it and as its next commit writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.domain.alarms import Alarm
    from durable.domain.writes import WriteSet


class AlarmSlot:
    """Set, running, or empty. ``writes`` gives the write set that a change goes to."""

    __slots__ = ("_before", "_running", "_set", "_writes")

    def __init__(self, writes: Callable[[], WriteSet]) -> None:
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

    def set(self, alarm: Alarm | None) -> None:
        """Set or delete the alarm; what runs for the old one gets no retry."""
        self._writes().alarm = alarm
        self.loaded(alarm)

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
