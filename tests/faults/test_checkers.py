"""The checkers accept every history of a correct agent and reject corrupted ones.

Histories are simulated from a seed: operations with random intervals around the moment
at which they take effect, a crash that leaves some outcomes unknown, reads between and
after. Each corruption makes one specific lie of it, which must be named.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tests.faults.checkers import check
from tests.faults.history import (
    AgentHistory,
    Kind,
    Observation,
    Operation,
    Outcome,
    Peek,
    Read,
    tally,
)

SEEDS = range(60)
OPERATIONS = 60
SOCKETS = ("a", "b", None)


@dataclass
class Simulation:
    """A correct agent in miniature, and the clients' view of it."""

    chance: random.Random
    history: AgentHistory
    increments: dict[str, int]
    entries: list[str]
    last_reply: dict[str | None, float]

    def effect(self, now: float, number: int) -> None:
        """One operation takes effect at ``now``; its client may not learn of it."""
        chance = self.chance
        kind = chance.choice(list(Kind))
        token = f"t{number}"
        socket = chance.choice(SOCKETS)
        start = now - chance.uniform(0, 3)
        operation = self.history.begin(kind, token, start, socket)
        if kind is Kind.INCREMENT:
            position = self.increments[token] = len(self.increments) + 1
        else:
            position = len(self.entries)
            self.entries.append(token)
        if chance.random() < 0.2:
            return
        # Replies of one socket arrive in the order in which they left.
        end = max(now + chance.uniform(0, 3), self.last_reply.get(socket, 0) + 0.001)
        self.last_reply[socket] = end
        self.history.acknowledge(operation, end, position)

    def read(self, start: float, end: float) -> None:
        """A read that takes effect at this moment."""
        self.history.reads.append(
            Read(
                start=start,
                end=end,
                count=len(self.increments),
                increments=dict(self.increments),
                entries=tuple(self.entries),
            )
        )

    def peek(self, start: float, end: float) -> None:
        """A look at the count in memory that takes effect at this moment."""
        count = len(self.increments)
        self.history.peeks.append(Peek(start=start, end=end, count=count))

    def observe(self, now: float) -> None:
        """A state frame that leaves at this moment."""
        self.history.observations.append(
            Observation(at=now, socket="a", count=len(self.increments))
        )


def simulate(seed: int) -> AgentHistory:
    """A history without any contradiction."""
    chance = random.Random(seed)
    history = AgentHistory()
    run = Simulation(chance, history, {}, [], {})
    for number in range(OPERATIONS):
        now = float(number)
        run.effect(now, number)
        if number % 7 == 3:
            run.read(now - chance.uniform(0, 2), now + chance.uniform(0, 2))
        if number % 5 == 2:
            run.observe(now + 0.0001)
        if number % 6 == 1:
            run.peek(now - chance.uniform(0, 2), now + chance.uniform(0, 2))
    for number in range(6):  # the crash took these with it
        history.begin(Kind.APPEND, f"gone{number}", OPERATIONS - chance.random())
    refused = history.begin(Kind.INCREMENT, "refused", OPERATIONS + 1.0)
    refused.outcome = Outcome.REFUSED
    run.read(OPERATIONS + 10.0, OPERATIONS + 11.0)
    return history


@pytest.mark.parametrize("seed", SEEDS)
def test_a_correct_history_is_accepted(seed: int) -> None:
    assert check(simulate(seed)) == []


def test_a_history_without_reads_proves_nothing() -> None:
    history = simulate(0)
    history.reads.clear()
    assert [anomaly.name for anomaly in check(history)] == ["never read"]


def acknowledged(history: AgentHistory, kind: Kind) -> list[Operation]:
    """Acknowledged operations in the order of their effect."""
    found = [o for o in history.of_kind(kind) if o.outcome is Outcome.ACKNOWLEDGED]
    return sorted(found, key=lambda o: o.position or 0)


def change_last_read(history: AgentHistory, **changes: object) -> None:
    history.reads[-1] = replace(history.reads[-1], **changes)  # type: ignore[arg-type]


def lose_append(history: AgentHistory, chance: random.Random) -> None:
    lost = chance.choice(acknowledged(history, Kind.APPEND)).token
    for index, read in enumerate(history.reads):
        kept = tuple(token for token in read.entries if token != lost)
        history.reads[index] = replace(read, entries=kept)


def lose_increment(history: AgentHistory, chance: random.Random) -> None:
    """The last ones are gone, count and all: a consistent but older state."""
    last = history.reads[-1]
    lost = acknowledged(history, Kind.INCREMENT)[-1]
    assert lost.position is not None
    kept = {t: n for t, n in last.increments.items() if n < lost.position}
    for index, read in enumerate(history.reads):
        if read.count >= lost.position:
            history.reads[index] = replace(read, increments=kept, count=len(kept))


def apply_append_twice(history: AgentHistory, chance: random.Random) -> None:
    entries = history.reads[-1].entries
    change_last_read(history, entries=(*entries, chance.choice(entries)))


def count_increment_twice(history: AgentHistory, chance: random.Random) -> None:
    change_last_read(history, count=history.reads[-1].count + 1)


def give_one_count_twice(history: AgentHistory, chance: random.Random) -> None:
    increments = dict(history.reads[-1].increments)
    first, second = chance.sample(sorted(increments), 2)
    increments[first] = increments[second]
    change_last_read(history, increments=increments)


def invent_entry(history: AgentHistory, chance: random.Random) -> None:
    change_last_read(history, entries=(*history.reads[-1].entries, "from nowhere"))


def apply_refused(history: AgentHistory, chance: random.Random) -> None:
    last = history.reads[-1]
    increments = {**last.increments, "refused": last.count + 1}
    change_last_read(history, increments=increments, count=last.count + 1)


def reorder_one_read(history: AgentHistory, chance: random.Random) -> None:
    index = chance.randrange(2, len(history.reads) - 1)
    first, second, *rest = history.reads[index].entries
    entries = (second, first, *rest)
    history.reads[index] = replace(history.reads[index], entries=entries)


def read_stale(history: AgentHistory, chance: random.Random) -> None:
    """A read of the end that shows a state from the middle."""
    old = history.reads[len(history.reads) // 2]
    end = history.reads[-1].end
    history.reads.insert(-1, replace(old, start=end - 0.5, end=end - 0.4))


def tell_another_place(history: AgentHistory, chance: random.Random) -> None:
    chosen = chance.choice(acknowledged(history, Kind.APPEND))
    assert chosen.position is not None
    chosen.position += 1


def reply_out_of_order(history: AgentHistory, chance: random.Random) -> None:
    replies = max(history.replies.values(), key=len)
    index = chance.randrange(len(replies) - 1)
    replies[index], replies[index + 1] = replies[index + 1], replies[index]


def end_before_an_earlier_one_began(
    history: AgentHistory, chance: random.Random
) -> None:
    """The second of two effects was over before the first was even sent."""
    first, *_, second = acknowledged(history, Kind.APPEND)
    second.start, second.end = first.start - 2, first.start - 1


def show_too_much(history: AgentHistory, chance: random.Random) -> None:
    count = history.reads[-1].count + 1
    seen = Observation(at=float(OPERATIONS), socket="b", count=count)
    history.observations.append(seen)


def peek_at_the_past(history: AgentHistory, chance: random.Random) -> None:
    """A former owner still answers from its memory."""
    history.peeks.append(Peek(start=OPERATIONS + 5.0, end=OPERATIONS + 6.0, count=0))


def peek_at_the_future(history: AgentHistory, chance: random.Random) -> None:
    """A count left that was never durable."""
    count = history.reads[-1].count + 1
    history.peeks.append(Peek(start=float(OPERATIONS), end=OPERATIONS + 1, count=count))


def show_state_backwards(history: AgentHistory, chance: random.Random) -> None:
    seen = replace(history.observations[-1], count=0)
    history.observations.append(seen)


CORRUPTIONS: dict[Callable[[AgentHistory, random.Random], None], str] = {
    lose_append: "acknowledged but lost",
    lose_increment: "acknowledged but lost",
    apply_append_twice: "applied twice",
    count_increment_twice: "count without increment",
    give_one_count_twice: "count given twice or skipped",
    invent_entry: "phantom",
    apply_refused: "refused but visible",
    reorder_one_read: "split: reads disagree about the order",
    read_stale: "stale read",
    tell_another_place: "told another place",
    reply_out_of_order: "reply overtook another",
    end_before_an_earlier_one_began: "out of order",
    show_too_much: "shown before it was durable",
    show_state_backwards: "state went backwards",
    peek_at_the_past: "peeked at the past",
    peek_at_the_future: "peeked at the future",
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda c: c.__name__)
def test_a_corrupted_history_is_rejected_by_name(
    corrupt: Callable[[AgentHistory, random.Random], None],
) -> None:
    for seed in SEEDS:
        history = simulate(seed)
        corrupt(history, random.Random(seed))
        names = {anomaly.name for anomaly in check(history)}
        assert CORRUPTIONS[corrupt] in names, f"seed {seed}: {names}"


def test_a_stale_read_is_rejected_even_if_nothing_was_acknowledged() -> None:
    history = simulate(1)
    for operation in history.operations:
        operation.outcome = Outcome.UNKNOWN
    history.replies.clear()
    history.observations.clear()
    read_stale(history, random.Random(1))
    assert "reads went backwards" in {anomaly.name for anomaly in check(history)}


def test_unknown_outcomes_are_counted_by_what_became_of_them() -> None:
    history = simulate(2)
    counted = tally(history, Kind.APPEND)
    appends = history.of_kind(Kind.APPEND)
    unknown = [o for o in appends if o.outcome is Outcome.UNKNOWN]
    assert counted.acknowledged == len(appends) - len(unknown)
    assert counted.unknown_absent == 6
    assert counted.unknown_present == len(unknown) - 6
    assert counted.unknown_present > 0
