"""``env.AI``: language models behind OpenAI's API, with what a gateway adds to them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agents.ai.errors import AIError, AIRateLimited, AITimeout

if TYPE_CHECKING:
    from agents.ai.binding import AI
    from agents.ai.stream import AIStream

__all__ = ["AI", "AIError", "AIRateLimited", "AIStream", "AITimeout"]

_HOMES = {"AI": "agents.ai.binding", "AIStream": "agents.ai.stream"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'agents.ai' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
