"""The regular end of an activation: its ``on_deactivate``, then it is gone."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from durable.domain.errors import DurableError
from durable.objects.durable_object import DurableObject

if TYPE_CHECKING:
    from durable.objects.activation import Activation

log = logging.getLogger(__name__)

# An ``on_deactivate`` may take so long, with the commit of what it wrote.
DEACTIVATE_SECONDS = 5.0


def has_hook(activation: Activation) -> bool:
    """Whether the activation's class wants to know of its end."""
    return activation.cls.on_deactivate is not DurableObject.on_deactivate


async def retire(activation: Activation, reason: str) -> None:
    """End an activation that nothing enters any more, after its hook has run."""
    try:
        async with asyncio.timeout(DEACTIVATE_SECONDS):
            await activation.run_last(reason)
            await activation.settle()
    except TimeoutError:
        log.warning(
            "on_deactivate was cut off after %g s",
            DEACTIVATE_SECONDS,
            extra={"object": str(activation.id)},
        )
    except DurableError as error:
        log.info("on_deactivate ended with its activation: %s", error)
    except Exception:  # the user's hook
        log.exception("on_deactivate failed", extra={"object": str(activation.id)})
    activation.deactivate()
