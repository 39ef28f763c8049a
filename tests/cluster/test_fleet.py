"""Several processes, one fleet: any front end reaches any owner, and owners may go."""

from __future__ import annotations

import asyncio

from tests.cluster.fleet import Fleet, result, until


async def test_any_front_end_reaches_any_owner_in_every_way(fleet: Fleet) -> None:
    workers = [await fleet.start("worker") for _ in range(2)]
    first = await fleet.client(await fleet.start("front"))
    second = await fleet.client(await fleet.start("both"))
    for worker in workers:
        room = await fleet.room_of(first, worker)
        assert await fleet.owner(second, room) is worker
        alice = await fleet.join(first, room, "who=alice&tag=a")
        bob = await fleet.join(second, room, "who=bob&tag=b")
        assert result(await alice.reply("increment")) == 1
        # Bob hears of it over the other front end.
        await bob.until('{"type":"cf_agent_state","state":{"count":1}}')
        await alice.websocket.send_bytes(b"\x00hi")
        await alice.until("alice a b'\\x00hi'")
        assert result(await bob.reply("count_of", "a")) == 1
        await alice.websocket.close()
        await bob.until("left with 1000")
        assert result(await bob.reply("count_of", "a")) == 0
        async with first.session.get(
            f"{first.url}/agents/room/{room}/stream?count=50"
        ) as response:
            text = await response.text()
        assert [line for line in text.split("\n") if line] == [
            f"data: {n}" for n in range(50)
        ]
        async with first.session.post(
            f"{first.url}/agents/room/{room}/echo", data=b"x" * 5_000_000
        ) as response:
            assert len(await response.read()) == 5_000_000


async def test_agents_call_each_other_across_workers(fleet: Fleet) -> None:
    one, two = await fleet.start("worker"), await fleet.start("worker")
    front = await fleet.client(await fleet.start("front"))
    near, far = await fleet.room_of(front, one), await fleet.room_of(front, two)
    caller = await fleet.join(front, near)
    assert result(await caller.reply("ask", far, "where")) == two.process.pid
    assert result(await caller.reply("round_trip", far)) is True
    assert result(await caller.reply("failure", far)) == ["what", True, False, False]
    # There and back again, while the first still waits.
    assert (
        result(await caller.reply("ask", far, "ask", near, "where")) == one.process.pid
    )


async def test_a_deadlock_over_the_link_is_named_at_once(fleet: Fleet) -> None:
    one, two = await fleet.start("worker"), await fleet.start("worker")
    front = await fleet.client(await fleet.start("front"))
    near, far = await fleet.room_of(front, one), await fleet.room_of(front, two)
    caller = await fleet.join(front, near)
    said = result(await caller.reply("circle", far))
    assert f"{near} lets nobody in while it waits for this call" in said


async def test_pings_are_answered_by_the_front_end_and_their_time_is_known(
    fleet: Fleet,
) -> None:
    workers = [await fleet.start("worker") for _ in range(2)]
    front = await fleet.client(await fleet.start("front"))
    room = await fleet.room_of(front, workers[0])
    caller = await fleet.join(front, room)
    await caller.websocket.send_str("ping")
    await caller.until("pong")
    (before,) = result(await caller.reply("answered"))
    # The next owner hears of it from the front end, and so do new sockets.
    workers[0].process.terminate()
    await workers[0].process.wait()
    other = await fleet.join(front, room)
    assert result(await caller.reply("answered")) == [before]
    for each in (caller, other):
        await each.websocket.send_str("ping")
        await each.until("pong")
    assert len(result(await caller.reply("answered"))) == 2


async def test_a_result_that_is_too_large_for_the_link_is_an_error(
    fleet: Fleet,
) -> None:
    one, two = await fleet.start("worker"), await fleet.start("worker")
    front = await fleet.client(await fleet.start("front"))
    near, far = await fleet.room_of(front, one), await fleet.room_of(front, two)
    caller = await fleet.join(front, near)
    frame = await caller.reply("size_of", far, (1 << 26) + 1)
    assert not frame["success"]
    assert "67108864 bytes" in frame["error"]
    assert result(await caller.reply("size_of", far, 1 << 20)) == 1 << 20


async def test_a_socket_with_nothing_in_flight_outlives_kill_9_of_its_owner(
    fleet: Fleet,
) -> None:
    workers = [await fleet.start("worker") for _ in range(2)]
    front = await fleet.start("front")
    client = await fleet.client(front)
    room = await fleet.room_of(client, workers[0])
    idle = await fleet.join(client, room, "who=ann&tag=t")
    busy = await fleet.join(client, room, "who=bob")
    assert result(await idle.reply("increment")) == 1
    await busy.send_call("slow", 30)
    await busy.until('{"type":"cf_agent_state","state":{"count":1}}')
    await until(lambda: "linked" in front.log)
    workers[0].process.kill()
    # Its call is lost: the client is told, and comes again by itself.
    assert await busy.closed() == (1012, "The object's owner was lost")
    assert result(await idle.reply("where")) == workers[1].process.pid
    # What its last owner may not have said is said again.
    await idle.websocket.send_str("still there")
    await idle.until("ann t 'still there'")
    assert result(await idle.reply("increment")) == 2
    assert result(await idle.reply("count_of", "t")) == 1


async def test_the_state_is_told_again_when_an_owner_was_lost(fleet: Fleet) -> None:
    workers = [await fleet.start("worker") for _ in range(2)]
    client = await fleet.client(await fleet.start("front"))
    room = await fleet.room_of(client, workers[0])
    idle = await fleet.join(client, room)
    assert result(await idle.reply("increment")) == 1
    workers[0].process.kill()
    await idle.until('{"type":"cf_agent_state","state":{"count":1}}')


async def test_a_drained_worker_fails_no_call_and_closes_no_socket(
    fleet: Fleet,
) -> None:
    workers = [await fleet.start("worker") for _ in range(2)]
    client = await fleet.client(await fleet.start("front"))
    room = await fleet.room_of(client, workers[0])
    callers = [await fleet.join(client, room, f"who={n}") for n in range(5)]
    counts: list[int] = []
    stop = asyncio.Event()

    async def call() -> None:
        while not stop.is_set():
            for caller in callers:
                counts.append(result(await caller.reply("increment")))

    async def post() -> None:
        while not stop.is_set():
            url = f"{client.url}/agents/room/{room}"
            async with client.session.post(url) as response:
                assert response.status == 200, await response.text()
                counts.append(int(await response.text()))

    calling = [asyncio.create_task(work()) for work in (call, post)]
    await until(lambda: len(counts) > 50)
    workers[0].terminate()
    assert await workers[0].ended() == 0
    moved = len(counts)
    await until(lambda: len(counts) > moved + 50)
    stop.set()
    await asyncio.gather(*calling)
    assert sorted(counts) == list(range(1, len(counts) + 1))
    assert await fleet.owner(client, room) is workers[1]


async def test_a_request_that_an_owner_had_begun_is_not_sent_twice(
    fleet: Fleet,
) -> None:
    workers = [await fleet.start("worker") for _ in range(2)]
    client = await fleet.client(await fleet.start("front"))
    room = await fleet.room_of(client, workers[0])
    watcher = await fleet.join(client, room)

    async def post() -> tuple[int, str, bool]:
        url = f"{client.url}/agents/room/{room}?seconds=30"
        async with client.session.post(url) as response:
            return (
                response.status,
                await response.text(),
                "Retry-After" in response.headers,
            )

    posting = asyncio.create_task(post())
    await watcher.until("posting")
    workers[0].process.kill()
    status, text, retry = await posting
    assert (status, retry) == (503, True)
    assert "unknown" in text
    assert result(await watcher.reply("increment")) == 1


async def test_a_front_end_that_dies_is_told_to_its_owners(fleet: Fleet) -> None:
    await fleet.start("worker")
    doomed = await fleet.start("front")
    other = await fleet.client(await fleet.start("front"))
    one = await fleet.join(await fleet.client(doomed), "hall", "tag=x")
    two = await fleet.join(other, "hall", "tag=x")
    assert result(await one.reply("count_of", "x")) == 2
    doomed.process.kill()
    await two.until("left with 1006")
    assert result(await two.reply("count_of", "x")) == 1


async def test_shards_move_to_a_newcomer_under_open_sockets(fleet: Fleet) -> None:
    first = await fleet.start("worker")
    client = await fleet.client(await fleet.start("front"))
    callers = [await fleet.join(client, f"room{n}") for n in range(20)]
    second = await fleet.start("worker")
    seen = {first.process.pid}
    expected = 0
    while len(seen) < 2:
        expected += 1
        for caller in callers:
            assert result(await caller.reply("increment")) == expected
            seen.add(result(await caller.reply("where")))
    assert seen == {first.process.pid, second.process.pid}
