"""From a URL to an instance (rules a), as any HTTP client sees it."""

from __future__ import annotations

import pytest

from tests.wire.raw import UPGRADE, Wire, unique


@pytest.mark.rule("a.path", "a.unchanged")
async def test_method_path_query_and_body_reach_the_instance(wire: Wire) -> None:
    name = unique()
    path = f"/agents/echo-agent/{name}/rest%20of/it?x=1&x=%32&y="
    seen = await wire.json(path, "POST", data=b"the body")
    assert (seen["name"], seen["method"], seen["body"]) == (name, "POST", "the body")
    assert seen["url"].endswith(path)
    assert seen["query"]["y"] == ""


@pytest.mark.rule("a.empty-segments")
@pytest.mark.parametrize("start", ["", "/"])
async def test_empty_segments_are_dropped(wire: Wire, start: str) -> None:
    name = unique()
    seen = await wire.json(f"{start}/agents///echo-agent//{name}//x")
    assert seen["name"] == name


@pytest.mark.rule("a.no-match")
@pytest.mark.parametrize(
    "path", ["/", "/agents", "/agents/echo-agent", "/agents/echo-agent/", "/other/a/b"]
)
async def test_what_the_router_does_not_know_is_the_applications(
    wire: Wire, path: str
) -> None:
    assert await wire.answer(path) == (404, "the application's own answer")


@pytest.mark.rule("a.unknown-agent", "f.6")
async def test_an_unknown_agent_is_refused_with_400(wire: Wire) -> None:
    for method in ("GET", "POST"):
        answer = await wire.answer("/agents/absent-agent/x", method)
        assert answer == (400, "Invalid request")
    answer = await wire.answer("/agents/absent-agent/x", headers=UPGRADE)
    assert answer == (400, "Invalid request")


@pytest.mark.rule("a.segment-case")
@pytest.mark.parametrize("segment", ["EchoAgent", "Echo-Agent", "echoagent"])
async def test_the_agent_segment_is_compared_as_it_is(wire: Wire, segment: str) -> None:
    assert (await wire.answer(f"/agents/{segment}/x"))[0] == 400


KEBAB = {
    "AIChat": "a-i-chat",
    "MyAPI": "my-a-p-i",
    "ALL_CAPS": "all-caps",
    "My_Mixed": "my--mixed",
    "Level2Agent": "level2-agent",
    "Trailing_": "trailing",
}


@pytest.mark.rule("a.kebab", "a.identity-agent")
@pytest.mark.parametrize("segment", KEBAB.values(), ids=KEBAB)
async def test_kebab_case_in_url_and_identity(wire: Wire, segment: str) -> None:
    name = unique()
    path = f"/agents/{segment}/{name}"
    assert (await wire.json(path))["name"] == name
    async with await wire.open(path) as socket:
        identity = {"type": "cf_agent_identity", "name": name, "agent": segment}
        assert socket.frames[0] == identity


@pytest.mark.rule("a.no-on-request")
async def test_an_agent_without_on_request_answers_404(wire: Wire) -> None:
    answer = await wire.answer(f"/agents/bare-agent/{unique()}")
    assert answer == (404, "Not implemented")


@pytest.mark.rule("a.on-request-raises", "d.on-error")
async def test_on_request_that_raises_is_500_and_told_to_on_error(wire: Wire) -> None:
    path = f"/agents/failing-agent/{unique()}"
    assert (await wire.answer(path))[0] == 500
    async with await wire.open(path) as socket:
        journal = await socket.call("read_journal")
        assert ["error", "None", "on_request failed"] in journal
    async with wire.request(f"/agents/raising-agent/{unique()}") as response:
        text = await response.text()
        assert (response.status, response.content_type) == (500, "text/plain")
    assert "on_request failed" in text
    assert "Traceback" not in text


@pytest.mark.rule("a.raw-name", "f.1")
@pytest.mark.parametrize(
    "name", ["a%20b", "a%2Fb", "a%2fb", "a%2F%2Fb", "%C3%A9", "a+b", "%25", "A", "a~b"]
)
async def test_the_name_is_the_raw_segment(wire: Wire, name: str) -> None:
    raw = f"{unique()}{name}"
    path = f"/agents/echo-agent/{raw}/x"
    assert (await wire.json(path))["name"] == raw
    async with await wire.open(path) as socket:
        assert socket.frames[0]["name"] == raw


@pytest.mark.rule("a.name-limit")
async def test_a_name_has_at_most_1024_bytes(wire: Wire) -> None:
    name = unique().ljust(1024, "n")
    assert (await wire.json(f"/agents/echo-agent/{name}"))["name"] == name
    for headers in ({}, UPGRADE):
        status, _ = await wire.answer(f"/agents/echo-agent/{name}n", headers=headers)
        assert 400 <= status < 500


@pytest.mark.rule("a.any-method")
@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_any_method_reaches_on_request(wire: Wire, method: str) -> None:
    async with wire.request(f"/agents/echo-agent/{unique()}", method) as response:
        assert response.status == 200
        assert response.headers["X-Method"] == method


CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}


@pytest.mark.rule("a.cors")
async def test_cors_adds_headers_and_answers_options(wire: Wire) -> None:
    path = f"/cors/echo-agent/{unique()}"
    for method in ("GET", "OPTIONS"):
        async with wire.request(path, method) as response:
            assert response.status == 200
            assert {name: response.headers.get(name) for name in CORS} == CORS
            assert "Access-Control-Allow-Credentials" not in response.headers
            assert ("X-Method" in response.headers) == (method == "GET")
            assert bool(await response.read()) == (method == "GET")
    async with wire.request(f"/agents/echo-agent/{unique()}") as response:
        assert not [name for name in response.headers if name.startswith("Access-")]


@pytest.mark.rule("a.cors-mapping")
async def test_a_cors_mapping_is_taken_verbatim(wire: Wire) -> None:
    path = f"/cors-map/echo-agent/{unique()}"
    for method in ("GET", "OPTIONS"):
        async with wire.request(path, method) as response:
            assert response.status == 200
            names = {name for name in response.headers if name.startswith("Access-")}
            assert names == {"Access-Control-Allow-Origin"}
            assert (
                response.headers["Access-Control-Allow-Origin"] == "https://one.example"
            )
            assert response.headers["X-Extra"] == "yes"


@pytest.mark.rule("a.cors-not-on-upgrade", "f.15")
async def test_an_upgrade_gets_neither_cors_nor_extensions(wire: Wire) -> None:
    offered = {
        **UPGRADE,
        "Sec-WebSocket-Extensions": "permessage-deflate",
        "Sec-WebSocket-Protocol": "one, two",
    }
    path = f"/cors/echo-agent/{unique()}"
    async with wire.request(path, headers=offered) as response:
        assert response.status == 101
        assert not [name for name in response.headers if name.startswith("Access-")]
        assert "Sec-WebSocket-Extensions" not in response.headers
        assert "Sec-WebSocket-Protocol" not in response.headers
        response.close()


@pytest.mark.rule("a.hooks", "a.hook-response")
async def test_hooks_answer_what_they_are_for(wire: Wire) -> None:
    name = unique()
    seen = (418, f"hook saw RoomAgent/{name}")
    request_hook = f"/request-hook/room-agent/{name}?answer"
    connect_hook = f"/connect-hook/room-agent/{name}?answer"
    assert await wire.answer(request_hook) == seen
    assert await wire.answer(connect_hook, headers=UPGRADE) == seen
    assert (await wire.answer(connect_hook))[0] == 200
    async with await wire.open(request_hook) as socket:
        journal = await socket.call("read_journal")
        assert [kind for kind, *_ in journal] == ["start", "connect"]


@pytest.mark.rule("a.hook-request")
async def test_a_hook_may_replace_the_request(wire: Wire) -> None:
    name = unique()
    seen = await wire.json(f"/request-hook/echo-agent/{name}?replace")
    assert seen["headers"]["x-replaced"] == f"EchoAgent/{name}"
    async with await wire.open(f"/connect-hook/room-agent/{name}?replace") as socket:
        journal = await socket.call("read_journal")
        assert journal[1][3] == f"RoomAgent/{name}"


@pytest.mark.rule("a.props", "a.no-internal-headers")
async def test_props_come_from_the_router_and_from_nobody_else(wire: Wire) -> None:
    async with await wire.open(f"/props/echo-agent/{unique()}") as socket:
        journal = await socket.call("read_journal")
        assert journal[0] == ["start", {"given": [1, "two"]}]
    forged = {"x-agents-lifecycle-props": "eyJnaXZlbiI6MX0="}
    path = f"/agents/echo-agent/{unique()}"
    async with wire.request(path, headers=forged) as response:
        internal = ("x-partykit", "x-agents", "x-durable", "cf-")
        names = [name.lower() for name in response.headers]
        assert not [name for name in names if name.startswith(internal)]
        seen = (await response.json())["headers"]
        own = {"x-partykit-room", "x-partykit-namespace"}
        assert not own & set(seen)
    async with await wire.open(path) as socket:
        assert (await socket.call("read_journal"))[0] == ["start", None]


@pytest.mark.rule("a.prefix")
async def test_a_prefix_may_have_several_segments(wire: Wire) -> None:
    name = unique()
    assert (await wire.json(f"/api/v2/echo-agent/{name}"))["name"] == name
    assert (await wire.answer(f"/api/echo-agent/{name}/x"))[0] == 404


@pytest.mark.rule("a.connection-id")
async def test_without_pk_the_connection_has_an_id_of_its_own(wire: Wire) -> None:
    path = f"/agents/room-agent/{unique()}"
    async with await wire.open(path) as one, await wire.open(path) as two:
        first, second = (await one.call("me"))["id"], (await two.call("me"))["id"]
        assert first != second
        assert min(len(first), len(second)) >= 8


@pytest.mark.rule("a.same-pk", "f.13", "d.get-connections")
async def test_two_sockets_of_one_id_live_side_by_side(wire: Wire) -> None:
    path = f"/agents/room-agent/{unique()}?_pk=twin"
    async with await wire.open(path) as new:
        async with await wire.open(path) as old:
            assert await new.call("ids") == ["twin", "twin"]
            assert not (await old.reply("one", "twin"))["success"]
            await new.call("say", "hello", [])
            await old.call("ids")
            assert old.frames.count("hello") == new.frames.count("hello") == 1
        await new.until(lambda ids: len(ids) == 1, "ids")
        assert await new.call("one", "twin") == "twin"
        await new.call("say", "still here", [])
        assert new.frames.count("still here") == 1
