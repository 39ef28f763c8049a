"""What an object says leaves behind its commits, on a fresh lane: nothing sleeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from durable.gates.output_gate import OutputGate


class Lane:
    """Fresh or not, as the test says."""

    def __init__(self) -> None:
        self.fresh = True
        self.callbacks: list[Callable[[], None]] = []

    def is_fresh(self) -> bool:
        return self.fresh

    def when_fresh(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def heard(self) -> None:
        self.fresh = True
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()


@pytest.fixture
def lane() -> Lane:
    return Lane()


@pytest.fixture
def gate(lane: Lane) -> OutputGate:
    return OutputGate(lane)


def say(gate: OutputGate, log: list[str], *words: str) -> None:
    for word in words:
        gate.emit(lambda word=word: log.append(word))  # type: ignore[misc]


def test_with_nothing_written_an_effect_leaves_in_the_call(gate: OutputGate) -> None:
    log: list[str] = []
    say(gate, log, "now")
    assert log == ["now"]
    assert gate.is_idle


def test_effects_leave_in_order_each_behind_its_own_writes(gate: OutputGate) -> None:
    log: list[str] = []
    gate.issue()
    say(gate, log, "a1", "a2")
    gate.issue()
    say(gate, log, "b")
    assert log == []
    gate.opened(1)
    assert log == ["a1", "a2"]
    say(gate, log, "c")
    assert not gate.is_idle
    gate.opened(1)
    assert log == ["a1", "a2", "b", "c"]
    assert gate.is_idle


def test_a_stale_lane_holds_back_what_is_durable(gate: OutputGate, lane: Lane) -> None:
    log: list[str] = []
    lane.fresh = False
    say(gate, log, "read")
    gate.issue()
    say(gate, log, "written")
    gate.opened(1)
    assert log == []
    lane.heard()
    assert log == ["read", "written"]


def test_an_effect_never_overtakes_one_that_waits(gate: OutputGate, lane: Lane) -> None:
    log: list[str] = []
    lane.fresh = False
    say(gate, log, "first")
    lane.fresh = True
    say(gate, log, "second")
    assert log == []
    lane.heard()
    assert log == ["first", "second"]


async def test_wait_returns_when_an_effect_said_now_would_have_left(
    gate: OutputGate,
) -> None:
    await gate.wait()
    gate.issue()
    waiting = asyncio.create_task(gate.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.opened(1)
    await waiting


async def test_a_broken_gate_drops_effects_for_ever_and_tells_who_waits(
    gate: OutputGate,
) -> None:
    log: list[str] = []
    gate.issue()
    say(gate, log, "lost")
    waiting = asyncio.create_task(gate.wait())
    await asyncio.sleep(0)
    gate.break_(RuntimeError("reset"))
    gate.break_(RuntimeError("a later reason"))
    gate.opened(1)
    say(gate, log, "too late")
    for wait in (waiting, gate.wait()):
        with pytest.raises(RuntimeError, match=r"^reset$"):
            await wait
    assert log == []


def test_an_effect_that_raises_stops_neither_the_next_nor_who_opens_the_gate(
    gate: OutputGate, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []

    def bad() -> None:
        raise RuntimeError("a bad effect")

    with caplog.at_level(logging.ERROR):
        gate.emit(bad)
        gate.issue()
        gate.emit(bad)
        say(gate, log, "next")
        gate.opened(1)
    assert log == ["next"]
    assert len(caplog.records) == 2


async def test_one_that_no_longer_waits_is_forgotten(gate: OutputGate) -> None:
    gate.issue()
    waiting = asyncio.create_task(gate.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    gate.opened(1)
    assert gate.is_idle
