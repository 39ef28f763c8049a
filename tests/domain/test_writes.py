"""Write sets: the last write wins, and two in a row are one."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from durable.domain.activations import ActivationState, step
from durable.domain.writes import ObjectRow, WriteSet

SLOTS = st.tuples(st.just("user"), st.sampled_from("abc"))
STEPS = st.lists(
    st.tuples(st.just("put"), SLOTS, st.text("xy") | st.binary(max_size=3))
    | st.tuples(st.just("delete"), SLOTS)
    | st.tuples(st.just("delete_all"))
)


def made(steps: list[tuple[Any, ...]]) -> WriteSet:
    writes = WriteSet()
    for name, *args in steps:
        getattr(writes, name)(*args)
    return writes


@given(STEPS, STEPS)
def test_merging_is_writing_on(one: list[Any], two: list[Any]) -> None:
    merged, together = made(one), made([*one, *two])
    merged.merge(made(two))
    assert (merged.rows, merged.wipe) == (together.rows, together.wipe)
    assert merged.bytes == together.bytes


@given(STEPS)
def test_the_size_is_that_of_what_will_be_written(steps: list[Any]) -> None:
    writes = made(steps)
    assert writes.bytes == sum(len(value or "") for value in writes.rows.values())
    assert bool(writes) is bool(steps)


def test_merging_adds_up_what_the_gate_was_told_and_keeps_the_later_row() -> None:
    one, two = WriteSet(), WriteSet()
    one.issues, two.issues = 1, 2
    two.create = ObjectRow(1, "a")
    one.merge(two)
    assert (one.issues, one.create) == (3, ObjectRow(1, "a"))
    two.delete_all()
    assert two.create is None


def test_an_activation_that_is_gone_stays_gone() -> None:
    started = step(ActivationState.ACTIVATING, ActivationState.ACTIVE)
    gone = step(started, ActivationState.GONE)
    for state in ActivationState:
        with pytest.raises(ValueError, match="can't become"):
            step(gone, state)
