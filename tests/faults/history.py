"""What clients did and saw, as facts. The checkers judge them afterwards.

Times are one process's monotonic clock: an operation happened, if it did, between
``start`` and ``end``; one of unknown outcome may also happen later.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field


class Kind(enum.Enum):
    """What an operation asks of an agent."""

    INCREMENT = "increment"
    APPEND = "append"


class Outcome(enum.Enum):
    """What the client learned about its operation."""

    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(slots=True, kw_only=True)
class Operation:
    """One increment or append; ``token`` occurs once in a campaign.

    ``position`` is what the agent answered: 1 for the first increment of an agent, 0
    for its first append. ``socket`` names the WebSocket that carried it, if one did.
    """

    kind: Kind
    token: str
    start: float
    end: float = float("inf")
    outcome: Outcome = Outcome.UNKNOWN
    position: int | None = None
    socket: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The whole of an agent's durable effects, as one answer of it.

    ``increments`` maps a token to the count that it brought about.
    """

    start: float
    end: float
    count: int
    increments: Mapping[str, int]
    entries: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """An agent's count as it had it in memory, in one answer of it."""

    start: float
    end: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A state frame on a socket: the count that an agent showed its clients."""

    at: float
    socket: str
    count: int


@dataclass(slots=True)
class AgentHistory:
    """All that happened to one agent, in the order in which the clients noted it.

    Replies on one socket stand in ``replies`` in their order of arrival.
    """

    operations: list[Operation] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    peeks: list[Peek] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    replies: dict[tuple[str, Kind], list[Operation]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def begin(
        self, kind: Kind, token: str, start: float, socket: str | None = None
    ) -> Operation:
        """Note an operation before it is sent."""
        operation = Operation(kind=kind, token=token, start=start, socket=socket)
        self.operations.append(operation)
        return operation

    def acknowledge(self, operation: Operation, end: float, position: int) -> None:
        """Note the reply to an operation."""
        operation.outcome = Outcome.ACKNOWLEDGED
        operation.end = end
        operation.position = position
        if operation.socket is not None:
            self.replies[operation.socket, operation.kind].append(operation)

    def of_kind(self, kind: Kind) -> list[Operation]:
        """The increments or the appends."""
        return [o for o in self.operations if o.kind is kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Operations of one kind, by what became of them."""

    acknowledged: int = 0
    unknown_present: int = 0
    unknown_absent: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Sum of two tallies."""
        return Tally(
            acknowledged=self.acknowledged + other.acknowledged,
            unknown_present=self.unknown_present + other.unknown_present,
            unknown_absent=self.unknown_absent + other.unknown_absent,
        )

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.acknowledged:,} acknowledged, "
            f"{self.unknown_present:,} unknown but present, "
            f"{self.unknown_absent:,} unknown and absent"
        )


def tally(history: AgentHistory, kind: Kind) -> Tally:
    """Count one kind of operations against the last read."""
    last = history.reads[-1]
    present = last.increments.keys() if kind is Kind.INCREMENT else set(last.entries)
    operations = history.of_kind(kind)
    unknown = [o for o in operations if o.outcome is Outcome.UNKNOWN]
    there = sum(o.token in present for o in unknown)
    return Tally(
        acknowledged=sum(o.outcome is Outcome.ACKNOWLEDGED for o in operations),
        unknown_present=there,
        unknown_absent=len(unknown) - there,
    )
