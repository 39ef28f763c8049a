"""How much memory the cached rows of a worker's objects may take."""

from __future__ import annotations

from typing import Protocol


class Trimmed(Protocol):
    """A cache that can be made smaller."""

    def trim(self, keep: int) -> int:
        """Let go of what Postgres has, too, beyond so many bytes; returns the rest."""


class CacheBudget:
    """Trims the cache of an object that has too much, and the oldest if all have.

    Limits are in bytes of keys and values, per object and for all together. What isn't
    durable yet, and what a read waits for, stays: so a limit may be exceeded for a
    moment.
    """

    __slots__ = ("_limit", "_per_object", "_total", "_used")

    def __init__(self, *, per_object: int, limit: int) -> None:
        self._per_object = per_object
        self._limit = limit
        self._total = 0
        # By when it has last grown.
        self._used: dict[Trimmed, int] = {}

    @property
    def total(self) -> int:
        """What all caches have now, in bytes."""
        return self._total

    def grown(self, cache: Trimmed, used: int) -> None:
        """A cache has so many bytes now."""
        self._note(cache, used)
        if used > self._per_object:
            # To a half: so that not every new row costs a walk over the old ones.
            self._note(cache, cache.trim(self._per_object // 2))
        if self._total > self._limit:
            for oldest in list(self._used):
                self._note(oldest, oldest.trim(0))
                if self._total <= self._limit // 2:
                    break

    def gone(self, cache: Trimmed) -> None:
        """A cache's activation has ended."""
        self._total -= self._used.pop(cache, 0)

    def _note(self, cache: Trimmed, used: int) -> None:
        self._total += used - self._used.pop(cache, 0)
        if used:
            self._used[cache] = used
