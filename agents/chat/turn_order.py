"""In which order turns run, and what a message does that comes while one runs. Pure.

One turn at a time. ``message_concurrency`` decides about a message that a client sends
meanwhile; answers made anew (regenerate), continuations and the agent's own turns
always queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# How long a debounced message waits for a further one, if nothing else is said.
DEBOUNCE_SECONDS = 0.75
# More wait in line at no agent: what comes then is refused.
MAX_WAITING_TURNS = 100

REFUSING = frozenset({"drop", "reject"})
REPLACING = frozenset({"latest", "merge", "debounce", "interrupt", "rollback"})
STOPPING = frozenset({"interrupt", "rollback"})
STRATEGIES = REFUSING | REPLACING | {"queue"}


@dataclass(frozen=True, slots=True)
class Concurrency:
    """What ``message_concurrency`` says; ``seconds`` is for ``debounce``."""

    strategy: str = "queue"
    seconds: float = DEBOUNCE_SECONDS


def concurrency_of(given: Any) -> Concurrency:
    """Read ``message_concurrency``: a strategy, or ``("debounce", seconds)``.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(given, str) and given in STRATEGIES:
        return Concurrency(given)
    if isinstance(given, tuple) and len(given) == 2 and given[0] == "debounce":
        seconds = given[1]
        if isinstance(seconds, (int, float)) and seconds >= 0:
            return Concurrency("debounce", float(seconds))
    raise ValueError(
        f"message_concurrency is one of {', '.join(sorted(STRATEGIES))}, or "
        f'("debounce", seconds), not {given!r}'
    )


@dataclass(eq=False, slots=True)
class Turn:
    """One exchange: who asked, with what, and what became of it."""

    id: str
    # The user messages that it answers.
    message_ids: list[str] = field(default_factory=list)
    # Those of them that it brought.
    new_ids: list[str] = field(default_factory=list)
    # What was asked for in the same breath and is to be answered as one (merge).
    merged_ids: list[str] = field(default_factory=list)
    # A client's message, to which message_concurrency applies.
    is_submit: bool = False
    continuation: bool = False
    # Whose turn it is; None: the agent's own.
    connection: Any = None
    body: dict[str, Any] | None = None
    client_tools: list[Any] | None = None
    # Not before this time (debounce), in seconds since the epoch.
    due: float = 0.0
    # How often it was cut off before.
    recoveries: int = 0
    # The key of its row.
    key: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a new turn does to the others."""

    accepted: bool
    # These wait no longer.
    replaced: tuple[Turn, ...] = ()
    # The one that runs is to be stopped, and, for ``undo``, to leave no trace.
    stop: Turn | None = None
    undo: bool = False
    # Why it isn't accepted: ``drop``, ``reject`` or ``full``.
    refusal: str | None = None


class TurnOrder:
    """The turn that runs and those that wait."""

    __slots__ = ("_waiting", "running")

    def __init__(self) -> None:
        self.running: Turn | None = None
        self._waiting: deque[Turn] = deque()

    def __len__(self) -> int:
        return len(self._waiting) + (self.running is not None)

    def __iter__(self) -> Iterator[Turn]:
        if self.running is not None:
            yield self.running
        yield from self._waiting

    def find(self, turn_id: str) -> Turn | None:
        """The turn with this id, running or waiting."""
        return next((turn for turn in self if turn.id == turn_id), None)

    def admit(self, turn: Turn, concurrency: Concurrency, now: float) -> Admission:
        """Put a turn in line, or refuse it; ``now`` in seconds since the epoch."""
        if self.find(turn.id) is not None:
            return Admission(accepted=False, refusal="drop")
        if len(self._waiting) >= MAX_WAITING_TURNS:
            return Admission(accepted=False, refusal="full")
        if not turn.is_submit or not len(self):
            self._waiting.append(turn)
            return Admission(accepted=True)
        strategy = concurrency.strategy
        if strategy in REFUSING:
            return Admission(accepted=False, refusal=strategy)
        replaced: tuple[Turn, ...] = ()
        if strategy in REPLACING:
            replaced = tuple(other for other in self._waiting if other.is_submit)
            self._waiting = deque(o for o in self._waiting if not o.is_submit)
        if strategy == "merge":
            earlier = [id for o in replaced for id in (o.merged_ids or o.new_ids)]
            turn.merged_ids = [*earlier, *turn.new_ids]
        if strategy == "debounce":
            turn.due = now + concurrency.seconds
        self._waiting.append(turn)
        return Admission(
            accepted=True,
            replaced=replaced,
            stop=self.running if strategy in STOPPING else None,
            undo=strategy == "rollback",
        )

    def next(self) -> Turn | None:
        """The turn at the head of the line; it stays there until ``begin``."""
        return self._waiting[0] if self._waiting else None

    def begin(self, turn: Turn) -> None:
        """A turn that waited runs from now on."""
        self._waiting.remove(turn)
        self.running = turn

    def end(self) -> None:
        """The turn that ran has ended."""
        self.running = None

    def withdraw(self, turn: Turn) -> bool:
        """Take a waiting turn out of the line; False if it waits no longer."""
        if turn not in self._waiting:
            return False
        self._waiting.remove(turn)
        return True

    def clear(self) -> list[Turn]:
        """Nobody waits any longer; returns who did."""
        waiting = [*self._waiting]
        self._waiting.clear()
        return waiting
