"""``env.AI`` in processes: one cache, one limit and one log for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from durable.testing import Fleet, ScriptedModel
from tests.agents.ai.conftest import KEY, TOML

APP = """
from agents import Agent, Request, Response


class Asker(Agent):
    async def on_request(self, request: Request) -> Response:
        return Response.json(await self.env.AI.run("m", {"prompt": "hi"},
            gateway={"id": self.name.partition("-")[0]}))
"""


async def test_what_one_process_has_asked_another_one_knows(
    make_fleet: Callable[..., Awaitable[Fleet]],
    one: ScriptedModel,
    project_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (project_dir / "durable.toml").write_text(TOML)
    (project_dir / "app.py").write_text(APP)
    monkeypatch.chdir(project_dir)
    variables = {"ONE_URL": one.url, "ONE_KEY": KEY}
    fleet = await make_fleet(
        "app.py", nodes=2, processes=True, settings={"vars": variables}
    )
    one.play("first", "1", "2")

    async def ask(node: int, name: str) -> tuple[int, dict[str, Any]]:
        http = await fleet.http(node)
        async with http.get(f"/agents/asker/{name}") as answer:
            is_json = answer.status == 200
            return answer.status, await answer.json() if is_json else {}

    found = [await ask(n % 2, f"cached-{n}") for n in range(6)]
    assert {answer["response"] for _, answer in found} == {"first"}
    told = [answer["gateway"]["cache_status"] for _, answer in found]
    assert told == ["MISS", *["HIT"] * 5]
    assert len(one.asked) == 1
    statuses = [(await ask(n % 2, f"fixed-{n}"))[0] for n in range(4)]
    assert statuses == [200, 200, 500, 500]  # two in a minute, over both
