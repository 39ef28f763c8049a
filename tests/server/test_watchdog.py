"""The watchdog of the event loop: names the code that blocks, once."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from server.watchdog import LoopWatchdog


def blocks_the_loop(seen: threading.Event) -> None:
    assert seen.wait(10), "the watchdog said nothing while the loop was blocked"


class Seen(logging.Handler):
    """Sets an event when the log says something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.happened = threading.Event()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        if self.text in record.getMessage():
            self.happened.set()


@pytest.fixture
def seen() -> Seen:
    return Seen("is blocked for")


async def test_code_that_blocks_is_logged_once_with_its_stack(seen: Seen) -> None:
    log = logging.getLogger("server.watchdog")
    log.addHandler(seen)
    try:
        async with LoopWatchdog(0.05):
            blocks_the_loop(seen.happened)
            turned = asyncio.Event()
            asyncio.get_running_loop().call_later(0.05, turned.set)
            await turned.wait()
    finally:
        log.removeHandler(seen)
    said, over = seen.messages
    assert "in blocks_the_loop" in said
    assert "the event loop turns again after" in over


async def test_a_loop_that_turns_is_left_in_peace(seen: Seen) -> None:
    log = logging.getLogger("server.watchdog")
    log.addHandler(seen)
    try:
        async with LoopWatchdog(5):
            for _ in range(100):
                await asyncio.sleep(0)
    finally:
        log.removeHandler(seen)
    assert seen.messages == []
