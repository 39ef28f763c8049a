"""What goes on in nodes of this process, so that a test can wait for its end.

Three kinds: work that must end before the clock moves on (alarms, what goes on behind
replies, commits); handlers of requests, messages and calls, which may be waiting for
the clock to move, as in a long poll or a stream; and what waits for the clock itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable.objects.activation import Activation
    from durable.testing.clock import VirtualClock
    from durable.worker.worker import Worker

Task = asyncio.Task[Any]


class Work:
    """What went on when it was made."""

    def __init__(self, workers: Iterable[Worker], clock: VirtualClock) -> None:
        # What must end, and handlers, with the names of their objects.
        self.musts: list[str] = []
        self.handlers: dict[Task, str] = {}
        sleeping = clock.sleeping
        for worker in workers:
            asleep = {activation.id.value for activation in sleeping}
            self.musts += [
                f"alarm of {object_id.hex}"
                for object_id in worker.alarms_running - asleep
            ]
            for activation in worker.dispatcher.activations():
                self._look_at(activation, asleep=activation in sleeping)

    def _look_at(self, activation: Activation, *, asleep: bool) -> None:
        name = str(activation.id.name or activation.id)
        background = activation.scope.tasks
        if not activation.is_settled or (
            not asleep and any(not _is_hold(task) for task in background)
        ):
            self.musts.append(name)
        if not asleep:
            self.handlers.update(dict.fromkeys(activation.running, name))


def _is_hold(task: Task) -> bool:
    """Whether it does nothing but wait for an event, as ``keep_alive`` does."""
    inner = getattr(task.get_coro(), "cr_await", None)
    return getattr(inner, "__qualname__", "") == "Event.wait"
