"""One run of an object's alarm: deliver it, then let its row go or wait for a retry."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from durable.domain.alarms import Alarm, after_failure, info_of
from durable.domain.clock import wall
from durable.domain.errors import DurableError
from durable.objects.awaiting import must_await

if TYPE_CHECKING:
    from durable.objects.activation import Activation

log = logging.getLogger(__name__)

# A run may take so long; beyond, it has failed.
RUN_SECONDS = 900.0


async def run_alarm(activation: Activation, alarm: Alarm) -> None:
    """Deliver an alarm; returns when what became of its row is durable.

    Raises:
        DurableError: the infrastructure ended the run: that isn't counted.
    """

    async def deliver() -> None:
        activation.rows.alarm.begins(alarm)
        async with asyncio.timeout(RUN_SECONDS):
            result = activation.alarm_now(info_of(alarm))
            if must_await(result):
                await result

    try:
        await activation.run(deliver)
    except Exception as error:
        if isinstance(error, DurableError) and activation.output_gate.broken:
            raise
        _failed(activation, alarm, error)
    else:
        activation.rows.alarm.ended(None)
    await activation.output_gate.wait()


def _failed(activation: Activation, alarm: Alarm, error: Exception) -> None:
    retry = after_failure(alarm, wall.now(), wall.chance())
    log.error(
        "alarm failed" if retry else "alarm failed for the last time and is dropped",
        exc_info=error,
        extra={"object": str(activation.id)},
    )
    activation.rows.alarm.ended(retry)
