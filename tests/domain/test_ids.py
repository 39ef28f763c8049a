"""Ids and names: pure, and the same for ever."""

from __future__ import annotations

from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import given

from durable.domain import ids
from durable.domain.ids import (
    JURISDICTIONS,
    NameRefused,
    id_from_name,
    id_from_string,
    shard_of,
    unique_id,
)

TAGS = st.integers(0, 2**32 - 1)
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
).filter(lambda name: len(name.encode()) <= 1024)


@given(TAGS, NAMES)
def test_an_id_follows_from_tag_and_name_alone_and_reads_back(
    tag: int, name: str
) -> None:
    made = id_from_name(tag, name)
    assert made == id_from_name(tag, name)
    assert (made.tag, made.name) == (tag, name)
    assert len(str(made)) == 32
    for text in (str(made), str(made).upper()):
        again = id_from_string(tag, text)
        assert again.equals(made)
        assert again.name is None


def test_ids_never_change_between_versions() -> None:
    """What is stored under them would be lost."""
    made = id_from_name(0xC0FFEE42, "room-1")
    assert str(made) == "c0ffee427790ae84d9a930e68fd9c821"
    assert shard_of(UUID(int=1), 1024) == 898


@given(TAGS)
def test_unique_ids_differ_and_belong_to_their_namespace(tag: int) -> None:
    one, two = unique_id(tag), unique_id(tag)
    assert one != two
    assert (one.tag, one.name) == (tag, None)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 1025, "é" * 513, "\ud800"])
def test_what_can_be_no_name_is_refused(name: str) -> None:
    with pytest.raises(NameRefused):
        id_from_name(1, name)


@pytest.mark.parametrize("name", ["x" * 1024, "é" * 512, " ", "%2F", "../.."])
def test_other_names_are_taken_as_they_are(name: str) -> None:
    assert id_from_name(1, name).name == name


@pytest.mark.parametrize("text", ["", "12", "g" * 32, "0" * 31, "0" * 33, "-" * 32])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="32 hex digits"):
        id_from_string(0, text)


def test_an_id_of_another_namespace_is_refused() -> None:
    with pytest.raises(ValueError, match="another namespace"):
        id_from_string(2, str(id_from_name(1, "a")))


@given(st.uuids(), st.integers(1, 65536))
def test_every_object_has_one_of_the_shards(value: UUID, shards: int) -> None:
    assert 0 <= shard_of(value, shards) < shards


def test_shards_are_used_evenly() -> None:
    counts = [0] * 16
    for number in range(16_000):
        counts[shard_of(id_from_name(1, str(number)).value, 16)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150


@given(TAGS, NAMES, st.sampled_from(JURISDICTIONS))
def test_a_jurisdictions_ids_are_apart_and_say_so(
    tag: int, name: str, jurisdiction: str
) -> None:
    made = id_from_name(tag, name, jurisdiction)
    assert (made.tag, made.name, made.jurisdiction) == (tag, name, jurisdiction)
    others = [None, *(j for j in JURISDICTIONS if j != jurisdiction)]
    assert made not in [id_from_name(tag, name, other) for other in others]
    assert id_from_string(tag, str(made)).jurisdiction == jurisdiction
    assert unique_id(tag, jurisdiction).jurisdiction == jurisdiction
    assert id_from_name(tag, name).jurisdiction is None
    assert unique_id(tag).jurisdiction is None


def test_a_plain_id_that_looks_like_one_of_a_jurisdiction_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With marks of a byte in place of three it happens at once."""
    monkeypatch.setattr(ids, "_MARK_BYTES", 1)
    id_from_name.cache_clear()
    made = [id_from_name(1, str(number)) for number in range(300)]
    assert {each.jurisdiction for each in made} == {None}
    assert len(set(made)) == 300
    id_from_name.cache_clear()
