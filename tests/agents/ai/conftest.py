"""A fleet with ``[ai]``, in front of scripted models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agents import Agent
from agents.ai import AI
from durable.testing import Fleet, ScriptedModel

KEY = "sk-do-not-tell"

TOML = """
[ai]
default = "one"

[[ai.providers]]
name = "one"
base_url_var = "ONE_URL"
api_key_var = "ONE_KEY"

[[ai.providers]]
name = "two"
base_url_var = "TWO_URL"

[[ai.models]]
name = "priced"
provider = "one"
model = "m-1"
input_price = 2.0
output_price = 10.0

[[ai.gateways]]
id = "cached"
cache_ttl = 60

[[ai.gateways]]
id = "fixed"
rate_limit = 2
rate_interval = 60

[[ai.gateways]]
id = "sliding"
rate_limit = 4
rate_interval = 60
rate_technique = "sliding"

[[ai.gateways]]
id = "patient"
max_attempts = 3
retry_delay_ms = 1

[[ai.gateways]]
id = "silent"
collect_log = false
"""


class Asker(Agent[Any, Any]):
    """An agent that asks."""

    async def ask(self, model: str, inputs: dict[str, Any]) -> Any:
        return await self.env.AI.run(model, inputs)


@pytest_asyncio.fixture
async def one() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(api_key=KEY) as model:
        yield model


@pytest_asyncio.fixture
async def two() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(*["from two"] * 10) as model:
        yield model


@pytest_asyncio.fixture
async def ai_fleet(
    one: ScriptedModel,
    two: ScriptedModel,
    make_fleet: Callable[..., Awaitable[Fleet]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Fleet:
    (tmp_path / "durable.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    variables = {"ONE_URL": one.url, "ONE_KEY": KEY, "TWO_URL": two.url}
    return await make_fleet(app=[Asker], settings={"vars": variables})


@pytest.fixture
def ai(ai_fleet: Fleet) -> AI:
    found: AI = ai_fleet.env.AI
    return found
