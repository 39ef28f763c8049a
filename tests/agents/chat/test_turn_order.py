"""What becomes of a message that comes while a turn runs."""

from __future__ import annotations

from typing import Any

import pytest

from agents.chat.turn_order import (
    MAX_WAITING_TURNS,
    Concurrency,
    Turn,
    TurnOrder,
    concurrency_of,
)


def submit(id: str) -> Turn:
    return Turn(id, new_ids=[f"m{id}"], is_submit=True)


def busy(*waiting: Turn) -> TurnOrder:
    order = TurnOrder()
    running = submit("running")
    order.admit(running, Concurrency(), 0)
    order.begin(running)
    for turn in waiting:
        order.admit(turn, Concurrency(), 0)
    return order


def ids(order: TurnOrder) -> list[str]:
    return [turn.id for turn in order]


@pytest.mark.parametrize("strategy", ["latest", "drop", "reject", "rollback"])
def test_an_idle_agent_takes_everything(strategy: str) -> None:
    order = TurnOrder()
    admission = order.admit(submit("1"), Concurrency(strategy), 0)
    assert admission.accepted
    assert (admission.replaced, admission.stop) == ((), None)
    assert order.next() is order.find("1")


def test_turns_queue_in_order_one_at_a_time() -> None:
    order = busy(submit("2"), submit("3"))
    assert ids(order) == ["running", "2", "3"]
    order.end()
    turn = order.next()
    assert turn is not None
    order.begin(turn)
    assert (order.running, len(order)) == (turn, 2)


@pytest.mark.parametrize("strategy", ["drop", "reject"])
def test_refused_while_a_turn_runs_or_waits(strategy: str) -> None:
    order = busy()
    admission = order.admit(submit("2"), Concurrency(strategy), 0)
    assert (admission.accepted, admission.refusal) == (False, strategy)
    assert ids(order) == ["running"]


@pytest.mark.parametrize(
    ("strategy", "stops", "undoes"),
    [
        ("latest", False, False),
        ("debounce", False, False),
        ("merge", False, False),
        ("interrupt", True, False),
        ("rollback", True, True),
    ],
)
def test_the_newest_message_replaces_those_that_wait(
    strategy: str, stops: bool, undoes: bool
) -> None:
    own = Turn("own")
    order = busy(submit("2"), own)
    admission = order.admit(submit("3"), Concurrency(strategy, 0.5), 100)
    assert [turn.id for turn in admission.replaced] == ["2"]
    assert ids(order) == ["running", "own", "3"]
    assert (admission.stop is order.running, admission.undo) == (stops, undoes)
    newest = order.find("3")
    assert newest is not None
    assert newest.due == (100.5 if strategy == "debounce" else 0)
    assert newest.merged_ids == (["m2", "m3"] if strategy == "merge" else [])


def test_merged_messages_add_up() -> None:
    order = busy()
    for id in ("2", "3", "4"):
        order.admit(submit(id), Concurrency("merge"), 0)
    newest = order.find("4")
    assert newest is not None
    assert newest.merged_ids == ["m2", "m3", "m4"]


def test_only_submits_are_subject_to_it() -> None:
    order = busy(submit("2"))
    assert order.admit(Turn("regenerate"), Concurrency("drop"), 0).accepted
    assert ids(order) == ["running", "2", "regenerate"]


def test_a_line_has_an_end_and_an_id_is_taken_once() -> None:
    order = busy(*(submit(str(n)) for n in range(MAX_WAITING_TURNS)))
    assert order.admit(submit("x"), Concurrency(), 0).refusal == "full"
    assert order.admit(submit("5"), Concurrency("latest"), 0).refusal == "drop"


def test_turns_are_withdrawn_and_cleared() -> None:
    two, three = submit("2"), submit("3")
    order = busy(two, three)
    assert order.withdraw(two)
    assert not order.withdraw(two)
    assert order.clear() == [three]
    assert ids(order) == ["running"]


def test_what_message_concurrency_may_be() -> None:
    assert concurrency_of("latest") == Concurrency("latest")
    assert concurrency_of(("debounce", 2)) == Concurrency("debounce", 2.0)
    bad: list[Any] = ["sometimes", ("debounce", -1), ("latest", 1), None]
    for given in bad:
        with pytest.raises(ValueError, match="message_concurrency"):
            concurrency_of(given)
