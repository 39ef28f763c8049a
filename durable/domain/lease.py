"""Whether a lane was heard of a moment ago: what every effect waits for."""

from __future__ import annotations


class Lease:
    """When the last acknowledged statement of a lane was sent; once lost, never fresh.

    ``freshness`` is W, in seconds.
    """

    __slots__ = ("_acknowledged", "_freshness", "_lost")

    def __init__(self, freshness: float) -> None:
        self._freshness = freshness
        self._acknowledged = float("-inf")
        self._lost = False

    def heard(self, sent: float) -> None:
        """A statement that was sent then has been acknowledged."""
        self._acknowledged = sent

    def lose(self) -> None:
        """The session has ended, or may have."""
        self._lost = True

    def is_fresh(self, now: float) -> bool:
        """Whether nobody else can be serving the lane's shards yet."""
        return not self._lost and now - self._acknowledged < self._freshness
