"""Plain or async: what a hook returned may have to be awaited."""

from __future__ import annotations

import inspect
from types import CoroutineType
from typing import Any

# What hooks return most often; asking the abstract classes costs microseconds.
_PLAIN = frozenset({type(None), str, int, bool, dict, list})


def must_await(result: Any) -> bool:
    """Whether this is awaitable: ``inspect.isawaitable``, with a fast path."""
    kind = type(result)
    if kind is CoroutineType:
        return True
    return kind not in _PLAIN and inspect.isawaitable(result)
