"""A queue: letters leave one after another, and what fails for good can be replayed.

Run: durable dev examples/schedules/mail_queue.py
"""

from __future__ import annotations

from typing import Any, TypedDict

from agents import Agent, RetryOptions, callable


class Post(TypedDict):
    """What has left, and whether the post office is open."""

    sent: list[str]
    open: bool


class MailQueue(Agent[Any, Post]):
    """Sends letters in their order, each tried twice."""

    initial_state = Post(sent=[], open=True)
    retry_options = RetryOptions(max_attempts=2, base_delay=0.05)

    @callable()
    async def send_letters(self, *letters: str) -> int:
        """Return at once; the letters leave when they leave."""
        for letter in letters:
            await self.queue("deliver", {"letter": letter})
        return len(await self.get_queues())

    def deliver(self, payload: dict[str, str]) -> None:
        """One letter; the next one waits for it."""
        if not self.state["open"]:
            raise ConnectionError("the post office is closed")
        sent = [*self.state["sent"], payload["letter"]]
        self.set_state({**self.state, "sent": sent})

    @callable()
    def set_open(self, is_open: bool) -> None:
        """Open or close the post office."""
        self.set_state({**self.state, "open": is_open})

    @callable()
    async def undelivered(self) -> list[str]:
        """What couldn't be sent."""
        return [letter.payload["letter"] for letter in await self.list_dead_letters()]

    @callable()
    async def try_again(self) -> int:
        """Put all that failed into the queue once more."""
        letters = await self.list_dead_letters()
        for letter in letters:
            await self.replay_dead_letter(letter.id)
        return len(letters)
