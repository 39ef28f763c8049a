"""The lane of the moment, as activations see it: they may outlive one.

While there is none nothing is fresh, so that nothing leaves; what wants to be committed
waits for the next lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from durable.domain.alarms import Alarm
    from durable.domain.ports import Committable
    from durable.domain.writes import Claim
    from durable.store.lane import Lane


class LaneSeat:
    """A CommitLog that forwards to the lane; its methods *are* the lane's meanwhile."""

    is_fresh: Callable[[], bool]
    when_fresh: Callable[[Callable[[], None]], None]
    mark_dirty: Callable[[Committable], None]

    def __init__(self, on_alarm: Callable[[int, UUID, Alarm | None], None]) -> None:
        self._on_alarm = on_alarm
        self._dirty: list[Committable] = []
        self._callbacks: list[Callable[[], None]] = []
        self._wait()

    def alarm_changed(self, claim: Claim, object_id: UUID, alarm: Alarm | None) -> None:
        """A commit has set or deleted an alarm."""
        self._on_alarm(claim.shard, object_id, alarm)

    def leave(self, lost: Lane) -> None:
        """The lane is lost: what waited there waits here."""
        self._wait()
        dirty, callbacks = lost.take_waiting()
        self._dirty += dirty
        self._callbacks += callbacks

    def occupy(self, lane: Lane) -> None:
        """The next lane is there, and every activation has its claim on it."""
        self.is_fresh = lane.is_fresh
        self.when_fresh = lane.when_fresh
        self.mark_dirty = lane.mark_dirty
        dirty, self._dirty = self._dirty, []
        callbacks, self._callbacks = self._callbacks, []
        for source in dirty:
            lane.mark_dirty(source)
        for callback in callbacks:
            lane.when_fresh(callback)

    def _wait(self) -> None:
        self.is_fresh = lambda: False
        self.when_fresh = self._callbacks_append
        self.mark_dirty = self._dirty_append

    def _callbacks_append(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _dirty_append(self, source: Committable) -> None:
        self._dirty.append(source)
