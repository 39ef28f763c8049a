"""Who may come in: origins, `authorize`, headers that only we may set, open binds."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict

from server.doors import kept_headers, origin_may_connect
from tests.server.nodes import ROOT, Client, client, node

APP = "tests/server/guarded_app.py"


@pytest.fixture
async def one(database_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    async with (
        node(
            database_url,
            tmp_path / "log",
            APP,
            DURABLE_ALLOWED_ORIGINS="https://app.example",
        ) as running,
        client(running.url) as one,
    ):
        yield one


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "may"),
    [
        (None, "x", (), True),
        ("http://x:8787", "x:8787", (), True),
        ("https://x", "x", (), True),
        ("https://x:443", "x", (), True),
        ("HTTPS://X", "x", (), True),
        ("https://evil.example", "x", (), False),
        ("https://x.evil.example", "x", (), False),
        ("https://evilx", "x", (), False),
        ("http://x:8788", "x:8787", (), False),
        ("null", "x", (), False),
        ("null", "null", (), False),
        ("", "", (), False),
        ("file://", "x", (), False),
        ("http://[::1", "x", (), False),
        ("http://x:99999", "x", (), False),
        ("http://localhost:5173", "127.0.0.1:8787", (), False),
        ("http://localhost:5173", "127.0.0.1:8787", ("loopback",), True),
        ("http://[::1]:5173", "127.0.0.1:8787", ("loopback",), True),
        ("http://localhost.evil.example", "127.0.0.1", ("loopback",), False),
        ("https://app.example", "x", ("https://app.example",), True),
        ("http://app.example", "x", ("https://app.example",), False),
        ("https://evil.example", "x", ("*",), True),
    ],
)
def test_a_page_may_connect_from_its_own_host_and_from_allowed_origins_only(
    origin: str | None, host: str, allowed: tuple[str, ...], may: bool
) -> None:
    assert origin_may_connect(origin, host, allowed) is may


def test_headers_of_one_hop_and_our_own_are_dropped_all_others_kept() -> None:
    headers = CIMultiDict(
        [
            ("Connection", "close, X-Secret"),
            ("connection", "X-Other,Upgrade"),
            ("Upgrade", "websocket"),
            ("X-Secret", "1"),
            ("x-other", "1"),
            ("x-durable-IDENTITY", '{"user":"root"}'),
            ("X-Durable-Identity", "1"),
            ("TE", "trailers"),
            ("Keep-Alive", "5"),
            ("Cookie", "a"),
            ("Cookie", "b"),
        ]
    )
    kept = [(name.lower(), value) for name, value in kept_headers(headers).items()]
    assert kept == [
        ("connection", "close, X-Secret"),
        ("connection", "X-Other,Upgrade"),
        ("upgrade", "websocket"),
        ("cookie", "a"),
        ("cookie", "b"),
    ]
    plain = CIMultiDict({"Host": "x", "Connection": "keep-alive"})
    assert kept_headers(plain) is plain


async def test_a_socket_of_a_foreign_page_is_refused_and_plain_clients_are_not(
    one: Client,
) -> None:
    url = one.url + "/agents/vault/open"
    for origin in ("https://evil.example", "null", "http://localhost:5173"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await one.session.ws_connect(url, origin=origin)
        assert caught.value.status == 403
    for allowed in (None, one.url, "https://app.example"):
        async with one.session.ws_connect(url, origin=allowed) as websocket:
            assert not websocket.closed


async def test_no_page_is_told_that_it_may_read_answers(one: Client) -> None:
    headers = {"Origin": "https://evil.example", "Cookie": "a=b"}
    url = one.url + "/agents/vault/open"
    for method in ("GET", "OPTIONS", "POST"):
        async with one.session.request(method, url, headers=headers) as response:
            assert not [n for n in response.headers if n.lower().startswith("access-")]


async def test_authorize_refuses_answers_or_says_who_it_is_which_the_agent_sees(
    one: Client,
) -> None:
    path = "/agents/vault/main"
    assert await one.get(path) == (403, "Forbidden")
    assert await one.get(path + "?user=eve") == (403, "Forbidden")
    assert await one.get("/agents/vault/told") == (401, "No entry today")
    assert (await one.get("/agents/vault/open"))[0] == 200
    async with one.session.get(one.url + path + "?user=Zoë") as response:
        shown = await response.json()
    assert shown["identity"] == {"user": "Zoë", "vault": "main"}


async def test_the_verdict_rides_on_the_connection_and_calls_see_it(
    one: Client,
) -> None:
    for name in ("ann", "bob"):
        async with await one.call(f"/agents/vault/main?user={name}") as caller:
            for _ in range(2):
                reply = await caller.reply("who")
                assert reply["result"] == {"user": name, "vault": "main"}
    for path in ("/agents/vault/main", "/agents/vault/told"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await one.call(path)
        assert caught.value.status in (401, 403)


@pytest.mark.parametrize("name", ["X-Durable-Identity", "x-durable-identity"])
async def test_a_forged_identity_is_never_believed(one: Client, name: str) -> None:
    forged = {name: '{"user":"root"}'}
    url = one.url + "/agents/vault/open"
    async with one.session.get(url, headers=forged) as response:
        shown = await response.json()
    assert shown["identity"] is None
    assert "x-durable-identity" not in shown["headers"]
    async with one.session.ws_connect(url, headers=forged) as websocket:
        await websocket.send_json(
            {"type": "rpc", "id": "1", "method": "who", "args": []}
        )
        async with asyncio.timeout(10):
            while (frame := await websocket.receive_json()).get("type") != "rpc":
                pass
    assert frame["success"]
    assert frame.get("result") is None


async def serve(app: str, *arguments: str, **settings: str) -> tuple[int, str]:
    """How `durable serve` ends that must not begin."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DURABLE_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "serve", app, *arguments),
        cwd=ROOT,
        env={**kept, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_without_authorize_a_node_listens_beyond_loopback_only_if_told_to(
    database_url: str, tmp_path: Path
) -> None:
    beyond = ("--host", "0.0.0.0", "--port", "0")
    code, said = await serve(
        "tests/server/bad_app.py", *beyond, DURABLE_DATABASE_URL=database_url
    )
    assert code == 1
    assert "define authorize(request, info)" in said
    assert "Traceback" not in said
    for app, open_to_all in ((APP, "off"), ("tests/server/bad_app.py", "on")):
        async with node(
            database_url,
            tmp_path / "log",
            app,
            DURABLE_HOST="0.0.0.0",
            DURABLE_OPEN_TO_ALL=open_to_all,
        ) as running:
            assert running.url.startswith("http://0.0.0.0:")
