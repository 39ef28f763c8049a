"""Namespaces: ids and stubs without I/O; what is from elsewhere is refused."""

from __future__ import annotations

import pytest

from durable import DurableObjectNamespace, RemoteError
from durable.objects.namespace import LOCATION_HINTS
from tests.objects.scripted import TAG, Place
from tests.objects.thing import Thing, work


@pytest.fixture
def place() -> Place:
    Thing.works = {}
    return Place(Thing)


async def test_a_jurisdictions_objects_are_others_than_those_outside(
    place: Place,
) -> None:
    eu = place.things.jurisdiction("eu")
    assert await eu.get_by_name("a").increment() == 1
    assert await eu.get_by_name("a").increment() == 2
    assert await place.stub("a").increment() == 1
    assert await place.things.jurisdiction("us").get_by_name("a").increment() == 1
    inside = eu.get_by_name("a").id
    assert (inside.name, inside.jurisdiction) == ("a", "eu")
    # Whoever has an id may use it.
    assert await place.things.get(inside).increment() == 3


def test_a_sub_namespace_refuses_ids_from_elsewhere(place: Place) -> None:
    eu, us = (place.things.jurisdiction(name) for name in ("eu", "us"))
    for other in (place.things.id_from_name("a"), us.id_from_name("a")):
        with pytest.raises(ValueError, match="isn't one of eu"):
            eu.get(other)
        with pytest.raises(ValueError, match="isn't one of eu"):
            eu.id_from_string(str(other))
    mine = eu.new_unique_id()
    assert mine.jurisdiction == "eu"
    assert eu.id_from_string(str(mine)).equals(mine)
    assert place.things.new_unique_id(jurisdiction="us").jurisdiction == "us"
    assert repr(eu) == "DurableObjectNamespace('Thing', 'eu')"


def test_what_there_is_not_is_refused(place: Place) -> None:
    with pytest.raises(ValueError, match="'mars' is no jurisdiction: eu, us"):
        place.things.jurisdiction("mars")
    with pytest.raises(ValueError, match="'mars' is no jurisdiction"):
        place.things.new_unique_id(jurisdiction="mars")
    with pytest.raises(ValueError, match="is that of eu"):
        place.things.jurisdiction("eu").new_unique_id(jurisdiction="us")
    with pytest.raises(ValueError, match="'moon' is no location hint: wnam"):
        place.things.get_by_name("a", location_hint="moon")
    other = DurableObjectNamespace("Other", Thing, TAG + 1, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another namespace"):
        place.things.get(other.new_unique_id())


@pytest.mark.parametrize("hint", LOCATION_HINTS)
async def test_a_location_hint_is_taken(place: Place, hint: str) -> None:
    assert await place.things.get_by_name("a", location_hint=hint).increment() == 1


async def test_an_error_says_which_object_it_is_about(place: Place) -> None:
    @work(place, "fail")
    def fail(thing: Thing) -> None:
        raise LookupError("what")

    stub = place.stub("a")
    with pytest.raises(RemoteError) as raised:
        await stub.do("fail")
    assert raised.value.durable_object_id == str(stub.id)
