"""Plain or async: what a hook returned may have to be awaited."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from types import CoroutineType
from typing import Any

from typing_extensions import TypeIs

# What hooks return most often; asking the abstract classes costs microseconds.
_PLAIN = frozenset({type(None), str, int, bool, dict, list})


def must_await(result: Any) -> TypeIs[Awaitable[Any]]:
    """Whether this is awaitable: ``inspect.isawaitable``, with a fast path."""
    kind = type(result)
    if kind is CoroutineType:
        return True
    return kind not in _PLAIN and inspect.isawaitable(result)
