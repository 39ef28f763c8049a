"""Section 1: ids, namespaces, stubs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import DurableError, NameRefused, Request
from durable.testing import Fleet
from tests.parity.probe import Probe, inside, on

pytestmark = pytest.mark.asyncio(loop_scope="module")


def name_of(it: Probe, *_: Any) -> str | None:
    return it.ctx.id.name


@pytest.mark.rule("S1.1")
async def test_a_unique_id_is_random_and_has_no_name(fleet: Fleet) -> None:
    one, two = fleet.env.Probe.new_unique_id(), fleet.env.Probe.new_unique_id()
    assert not one.equals(two)
    assert one.name is None
    stub = fleet.env.Probe.get(one)
    assert stub.name is None
    assert await inside(stub, name_of) is None


@pytest.mark.rule("S1.2", "S1.4")
async def test_a_name_always_gives_one_id(fleet: Fleet) -> None:
    probes = fleet.env.Probe
    assert probes.id_from_name("a").equals(probes.id_from_name("a"))
    assert not probes.id_from_name("a").equals(probes.id_from_name("b"))
    await probes.get_by_name("a").remember("here")
    assert await probes.get(probes.id_from_name("a")).remembered() == ["here"]


@pytest.mark.rule("S1.3", "S1.13")
async def test_id_from_string_reads_what_str_wrote(fleet: Fleet) -> None:
    probes = fleet.env.Probe
    for made in (probes.id_from_name("a"), probes.new_unique_id()):
        assert probes.id_from_string(str(made)).equals(made)


@pytest.mark.rule("S1.5", "S1.13")
@pytest.mark.parametrize("text", ["", "12", "g" * 32, "é" * 32, "0" * 33])
async def test_id_from_string_refuses_what_is_malformed(
    fleet: Fleet, text: str
) -> None:
    with pytest.raises(ValueError, match="hex digits"):
        fleet.env.Probe.id_from_string(text)


@pytest.mark.rule("S1.6")
async def test_ids_of_another_namespace_are_refused(fleet: Fleet) -> None:
    foreign = fleet.env.Mute.id_from_name("a")
    with pytest.raises(ValueError, match="another namespace"):
        fleet.env.Probe.id_from_string(str(foreign))
    with pytest.raises(ValueError, match="another namespace"):
        fleet.env.Probe.get(foreign)


@pytest.mark.rule("S1.7")
async def test_a_stub_is_there_at_once_and_wakes_nobody(
    fleet: Fleet, stub: Any
) -> None:
    await fleet.settle()
    assert Probe.lives[stub.name] == 0
    await stub.remembered()
    assert Probe.lives[stub.name] == 1


@pytest.mark.rule("S1.8")
async def test_every_handler_knows_the_name(fleet: Fleet, stub: Any) -> None:
    heard: list[str | None] = []
    for hook in ("constructor", "message", "close", "alarm"):
        on(stub, hook)(lambda it, *_: heard.append(it.ctx.id.name))
    assert await inside(stub, name_of) == stub.name
    url = f"/agents/probe/{stub.name}"
    http = await fleet.http()
    async with http.get(url) as response:
        assert await response.text() == stub.name
    async with http.ws_connect(url) as socket:
        await socket.send_str("hello")
    await inside(stub, lambda it: it.storage.set_alarm(fleet.clock.now() + 1))
    # Asleep, so that the alarm wakes it by its id alone.
    await fleet.settle()
    await fleet.evict(stub)
    await fleet.clock.advance(seconds=1)
    assert heard == [stub.name] * 5


@pytest.mark.rule("S1.9")
async def test_a_name_has_up_to_1024_bytes(fleet: Fleet) -> None:
    longest = "é" * 512
    assert await inside(fleet.env.Probe.get_by_name(longest), name_of) == longest
    for bad in ("", "é" * 512 + "a"):
        with pytest.raises(NameRefused):
            fleet.env.Probe.id_from_name(bad)


@pytest.mark.rule("S1.10")
async def test_calls_on_a_stub_arrive_in_the_order_in_which_they_are_sent(
    stub: Any,
) -> None:
    await asyncio.gather(*(stub.remember(n) for n in range(50)))
    assert await stub.remembered() == list(range(50))


@pytest.mark.rule("S1.11")
async def test_a_stub_has_id_name_fetch_and_the_public_methods(
    fleet: Fleet, stub: Any
) -> None:
    assert stub.id.equals(fleet.env.Probe.id_from_name(stub.name))
    response = await stub.fetch(Request("GET", "http://example.com/"))
    assert await response.text() == stub.name
    await stub.remember("public")
    with pytest.raises(AttributeError):
        stub._do("private")


@pytest.mark.rule("S1.12")
async def test_a_stub_serves_on_after_an_error(fleet: Fleet, stub: Any) -> None:
    fleet.fail_commit(stub)
    with pytest.raises(DurableError) as caught:
        await stub.add_one()
    assert caught.value.durable_object_reset
    assert await stub.add_one() == 1


@pytest.mark.rule("S1.8")
async def test_an_object_reached_by_its_ids_text_knows_its_name(
    fleet: Fleet, stub: Any
) -> None:
    await stub.add_one()
    await fleet.settle()
    await fleet.evict(stub)
    by_text = fleet.env.Probe.get(fleet.env.Probe.id_from_string(str(stub.id)))
    assert by_text.name is None
    on(stub, "name")(name_of)
    assert await by_text.do("name") == stub.name


@pytest.mark.rule("S1.15", "S1.16")
async def test_a_jurisdiction_has_ids_and_objects_of_its_own(
    fleet: Fleet, stub: Any
) -> None:
    probes = fleet.env.Probe
    of_eu, of_us = probes.jurisdiction("eu"), probes.jurisdiction("us")
    ids = [space.id_from_name(stub.name) for space in (probes, of_eu, of_us)]
    assert len({str(each) for each in ids}) == 3
    assert [each.jurisdiction for each in ids] == [None, "eu", "us"]
    assert of_eu.new_unique_id().jurisdiction == "eu"
    assert probes.new_unique_id(jurisdiction="us").jurisdiction == "us"
    in_eu = of_eu.get_by_name(stub.name)
    await in_eu.remember("in the EU")
    assert await in_eu.remembered() == ["in the EU"]
    assert await stub.remembered() == []


@pytest.mark.rule("S1.16")
async def test_a_jurisdiction_refuses_ids_from_elsewhere(fleet: Fleet) -> None:
    probes = fleet.env.Probe
    of_eu = probes.jurisdiction("eu")
    inside_it = of_eu.id_from_name("a")
    for foreign in (
        probes.id_from_name("a"),
        probes.jurisdiction("us").id_from_name("a"),
    ):
        with pytest.raises(ValueError, match="eu"):
            of_eu.get(foreign)
        with pytest.raises(ValueError, match="eu"):
            of_eu.id_from_string(str(foreign))
    # The whole namespace knows those of all.
    assert probes.id_from_string(str(inside_it)).jurisdiction == "eu"
    probes.get(inside_it)
    with pytest.raises(ValueError, match="no jurisdiction"):
        probes.jurisdiction("mars")


@pytest.mark.rule("S1.17")
async def test_a_location_hint_is_checked_and_changes_nothing(
    fleet: Fleet, stub: Any
) -> None:
    await stub.remember("here")
    hinted = fleet.env.Probe.get_by_name(stub.name, location_hint="weur")
    assert await hinted.remembered() == ["here"]
    with pytest.raises(ValueError, match="location hint"):
        fleet.env.Probe.get(stub.id, location_hint="moon")
