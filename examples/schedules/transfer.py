"""Messages that are applied exactly once: what leaves one account reaches the other.

Run: durable dev examples/schedules/transfer.py
"""

from __future__ import annotations

from typing import Any, TypedDict

from agents import Agent, callable


class Balance(TypedDict):
    """What is in an account."""

    money: int


class Account(Agent[Any, Balance]):
    """An account; its name is its number."""

    initial_state = Balance(money=100)

    @callable()
    async def pay(self, to: str, amount: int) -> int:
        """Take it here and send it there: one commit, whatever happens in between."""
        if amount > self.state["money"]:
            raise ValueError("not enough money")
        self.set_state(Balance(money=self.state["money"] - amount))
        await self.send(self.env.Account.get_by_name(to), "take", self.name, amount)
        return self.state["money"]

    def take(self, sender: str, amount: int) -> None:
        """Run once for each message, also if it is delivered twice."""
        self.set_state(Balance(money=self.state["money"] + amount))
