"""Judge the history of one agent: is there one order that explains all that was seen?

Increments and appends are both read as appends to a list (an increment's place is the
count that it brought about), which names each anomaly and takes near-linear time:

- every read is a prefix of one list, without doubles, strangers or refused operations;
- what was acknowledged is there, at the place that the reply told, for every read
  that began after the reply, and in the order in which clients saw things end;
- replies and state frames on one socket leave in the order of the list;
- nothing was shown to a client that the durable state doesn't hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.history import AgentHistory, Kind, Operation, Outcome, Read


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One contradiction."""

    name: str
    detail: str

    def __str__(self) -> str:
        """For an assertion's message."""
        return f"{self.name}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRead:
    """A read of one list."""

    start: float
    end: float
    items: tuple[str, ...]


def check(history: AgentHistory) -> list[Anomaly]:
    """Every contradiction in one agent's history; empty when there is none."""
    if not history.reads:
        return [Anomaly(name="never read", detail="nothing can be judged")]
    found: list[Anomaly] = []
    for read in history.reads:
        found += check_ledger(read)
    for kind in Kind:
        reads = [_list_read(read, kind) for read in history.reads]
        found += check_list(history.of_kind(kind), reads, kind)
    for (socket, kind), operations in history.replies.items():
        found += check_socket(socket, kind, operations)
    return found + check_peeks(history) + check_observations(history)


def _list_read(read: Read, kind: Kind) -> ListRead:
    if kind is Kind.APPEND:
        return ListRead(start=read.start, end=read.end, items=read.entries)
    items = tuple(sorted(read.increments, key=read.increments.__getitem__))
    return ListRead(start=read.start, end=read.end, items=items)


def check_ledger(read: Read) -> list[Anomaly]:
    """The count of a read is explained by its increments, each once."""
    counts = sorted(read.increments.values())
    if counts != list(range(1, len(counts) + 1)):
        return [Anomaly(name="count given twice or skipped", detail=str(counts[-9:]))]
    if read.count != len(counts):
        detail = f"count {read.count}, increments {len(counts)}"
        return [Anomaly(name="count without increment", detail=detail)]
    return []


def check_list(
    operations: Sequence[Operation], reads: Sequence[ListRead], kind: Kind
) -> list[Anomaly]:
    """One list explains the reads and what the clients of one kind saw."""
    longest = max(reads, key=lambda read: len(read.items)).items
    place = {token: index for index, token in enumerate(longest)}
    found = [
        Anomaly(name="split: reads disagree about the order", detail=str(read.items))
        for read in reads
        if read.items != longest[: len(read.items)]
    ]
    if len(place) != len(longest):
        doubles = sorted({t for t in longest if longest.count(t) > 1})
        found.append(Anomaly(name="applied twice", detail=str(doubles[:5])))
    found += _check_strangers(longest, operations)
    found += _check_acknowledged(operations, reads, place, kind)
    found += _check_reads_advance(reads)
    return found + _check_real_time(operations, place)


def _check_strangers(
    longest: Iterable[str], operations: Sequence[Operation]
) -> list[Anomaly]:
    issued = {o.token: o for o in operations}
    found = []
    for token in longest:
        if token not in issued:
            found.append(Anomaly(name="phantom", detail=token))
        elif issued[token].outcome is Outcome.REFUSED:
            found.append(Anomaly(name="refused but visible", detail=token))
    return found


def _check_acknowledged(
    operations: Sequence[Operation],
    reads: Sequence[ListRead],
    place: dict[str, int],
    kind: Kind,
) -> list[Anomaly]:
    first = 1 if kind is Kind.INCREMENT else 0
    found = []
    shown: list[tuple[float, int, str]] = []
    for operation in operations:
        if operation.outcome is not Outcome.ACKNOWLEDGED:
            continue
        index = place.get(operation.token)
        if index is None:
            found.append(Anomaly(name="acknowledged but lost", detail=operation.token))
            continue
        if operation.position != index + first:
            detail = f"{operation.token}: told {operation.position}, is {index + first}"
            found.append(Anomaly(name="told another place", detail=detail))
        shown.append((operation.end, index, operation.token))
    shown.sort()
    return found + _check_stale(reads, shown)


def _check_stale(
    reads: Sequence[ListRead], shown: Sequence[tuple[float, int, str]]
) -> list[Anomaly]:
    """A read holds everything that was acknowledged before it began."""
    found = []
    latest, seen = -1, 0
    for read in sorted(reads, key=lambda read: read.start):
        while seen < len(shown) and shown[seen][0] < read.start:
            latest = max(latest, shown[seen][1])
            seen += 1
        if len(read.items) <= latest:
            detail = f"{len(read.items)} items at {read.start}, wanted {latest + 1}"
            found.append(Anomaly(name="stale read", detail=detail))
    return found


def _check_reads_advance(reads: Sequence[ListRead]) -> list[Anomaly]:
    ended = sorted((read.end, len(read.items)) for read in reads)
    found = []
    most, seen = 0, 0
    for read in sorted(reads, key=lambda read: read.start):
        while seen < len(ended) and ended[seen][0] < read.start:
            most = max(most, ended[seen][1])
            seen += 1
        if len(read.items) < most:
            detail = f"{len(read.items)} items at {read.start}, were {most}"
            found.append(Anomaly(name="reads went backwards", detail=detail))
    return found


def _check_real_time(
    operations: Sequence[Operation], place: dict[str, int]
) -> list[Anomaly]:
    """What ended before another began stands before it."""
    visible = [o for o in operations if o.token in place]
    ended = sorted(
        (o.end, place[o.token], o.token)
        for o in visible
        if o.outcome is Outcome.ACKNOWLEDGED
    )
    found = []
    latest, by, seen = -1, "", 0
    for operation in sorted(visible, key=lambda o: o.start):
        while seen < len(ended) and ended[seen][0] < operation.start:
            if ended[seen][1] > latest:
                latest, by = ended[seen][1:]
            seen += 1
        if place[operation.token] < latest:
            detail = f"{operation.token} began after {by} had ended"
            found.append(Anomaly(name="out of order", detail=detail))
    return found


def check_socket(
    socket: str, kind: Kind, operations: Sequence[Operation]
) -> list[Anomaly]:
    """Replies on one socket arrive in the order of the agent's commits."""
    return [
        Anomaly(
            name="reply overtook another",
            detail=f"{kind.value} on {socket}: {after.token} before {before.token}",
        )
        for before, after in pairwise(operations)
        if _position(after) <= _position(before)
    ]


def _position(operation: Operation) -> int:
    assert operation.position is not None
    return operation.position


def check_peeks(history: AgentHistory) -> list[Anomaly]:
    """A count in memory holds all that was shown or acknowledged before the question.

    And it is never more than what is durable for whoever asks later.
    """
    shown = [(o.end, o.position) for o in history.of_kind(Kind.INCREMENT) if o.position]
    shown += [(peek.end, peek.count) for peek in history.peeks]
    shown.sort()
    asked = [(p.start, p.count, "peeked at the past") for p in history.peeks]
    asked += [(r.start, r.count, "peeked at the future") for r in history.reads]
    found = []
    most, seen = 0, 0
    for start, count, name in sorted(asked):
        while seen < len(shown) and shown[seen][0] < start:
            most = max(most, shown[seen][1])
            seen += 1
        if count < most:
            detail = f"{count} at {start}, was {most}"
            found.append(Anomaly(name=name, detail=detail))
    return found


def check_observations(history: AgentHistory) -> list[Anomaly]:
    """State frames never go back, and never show what is not durable."""
    found = []
    last: dict[str, int] = {}
    for seen in history.observations:
        if seen.count < last.get(seen.socket, 0):
            detail = f"{seen.count} after {last[seen.socket]} on {seen.socket}"
            found.append(Anomaly(name="state went backwards", detail=detail))
        last[seen.socket] = seen.count
    shown = sorted((o.at, o.count) for o in history.observations)
    most, used = 0, 0
    for read in sorted(history.reads, key=lambda read: read.start):
        while used < len(shown) and shown[used][0] < read.start:
            most = max(most, shown[used][1])
            used += 1
        if read.count < most:
            detail = f"shown {most}, read {read.count}"
            found.append(Anomaly(name="shown before it was durable", detail=detail))
    return found
