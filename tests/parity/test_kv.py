"""Section 2: keys and values."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from durable import DurableError, ValueRefused
from durable.testing import Fleet
from tests.parity.probe import Probe, cold, inside, sleep

pytestmark = pytest.mark.asyncio(loop_scope="module")

# By UTF-8 bytes; UTF-16, as JavaScript compares, has the last two the other way round.
KEYS = ["", "B", "a", "ab", "b", "é", "\ufffd", "\U0001f600"]


@pytest_asyncio.fixture(loop_scope="module", params=["awake", "woken"])
async def full(fleet: Fleet, stub: Any, request: pytest.FixtureRequest) -> Any:
    """An object with KEYS, each with its place: in memory, or in Postgres only."""
    values = {key: place for place, key in enumerate(KEYS)}
    await inside(stub, lambda it: it.storage.put(dict(reversed(values.items()))))
    if request.param == "woken":
        await cold(fleet, stub)
    return stub


async def listed(stub: Any, **options: Any) -> list[str]:
    async def work(it: Probe) -> list[str]:
        options.setdefault("prefix", "")
        found = await it.storage.list(**options)
        return [key for key in found if not key.startswith("!")]

    found: list[str] = await inside(stub, work)
    return found


@pytest.mark.rule("S2.1")
async def test_get_says_none_of_what_is_not_there(stub: Any) -> None:
    assert await inside(stub, lambda it: it.storage.get("nothing")) is None


@pytest.mark.rule("S2.2")
async def test_get_of_several_is_in_the_order_of_bytes_and_leaves_out_what_is_missing(
    full: Any,
) -> None:
    asked = [*reversed(KEYS), "missing"]

    async def work(it: Probe) -> list[Any]:
        return list((await it.storage.get(asked)).items())

    assert await inside(full, work) == [(key, n) for n, key in enumerate(KEYS)]


@pytest.mark.rule("S2.3")
@pytest.mark.parametrize("operation", ["get", "put", "delete"])
async def test_up_to_128_keys_at_once(stub: Any, operation: str) -> None:
    keys = {f"k{n:03}": n for n in range(129)}

    async def work(it: Probe, count: int) -> Any:
        some = dict(list(keys.items())[:count])
        return await getattr(it.storage, operation)(
            some if operation == "put" else list(some)
        )

    await inside(stub, work, 128)
    with pytest.raises(ValueRefused, match="128"):
        await inside(stub, work, 129)


@pytest.mark.rule("S2.4")
async def test_put_of_several_is_all_or_nothing(fleet: Fleet, stub: Any) -> None:
    with pytest.raises(ValueRefused):
        await inside(stub, lambda it: it.storage.put({"a": 1, "b": object()}))
    assert await inside(stub, lambda it: it.storage.get(["a", "b"])) == {}
    fleet.fail_commit(stub)
    with pytest.raises(DurableError):
        await inside(stub, lambda it: it.storage.put({"a": 1, "b": 2}))
    assert await inside(stub, lambda it: it.storage.get(["a", "b"])) == {}


@pytest.mark.rule("S2.5")
async def test_none_is_refused_as_a_type_error(stub: Any) -> None:
    async def work(it: Probe) -> str:
        with pytest.raises(TypeError):
            await it.storage.put("a", None)
        return "refused"

    assert await inside(stub, work) == "refused"


VALUES = [
    {"a": [1, 2.5, True, None, "text", {"nested": {}}]},
    {"$": "looks like a tag", "v": [1]},
    datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    date(2026, 1, 2),
    b"bytes \0\xff",
    [bytearray(b"as bytes")],
    {1, 2, 3},
    frozenset({"a"}),
    (1, (2, [3])),
    Decimal("1.10"),
    2**200,
    -(2**63),
    {1: "int key", ("a", 2): "tuple key"},
    UUID(int=7),
    "NUL \0 in a text",
    float("inf"),
]


@pytest.mark.rule("S2.6")
@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_a_value_comes_back_as_what_it_was(
    fleet: Fleet, stub: Any, value: Any
) -> None:
    async def read(it: Probe) -> Any:
        found = await it.storage.get("v")
        assert found == value
        assert type(found) is type(value)
        return "read"

    await inside(stub, lambda it: it.storage.put("v", value))
    assert await inside(stub, read) == "read"
    await sleep(fleet, stub)
    assert await inside(stub, read) == "read"


@pytest.mark.rule("S2.7")
async def test_what_can_not_be_kept_is_refused_with_its_path(stub: Any) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)

    async def work(it: Probe) -> str:
        with pytest.raises(ValueRefused, match=r"value\.a\[1\]"):
            await it.storage.put("v", {"a": [1, print]})
        with pytest.raises(ValueRefused, match="contains itself"):
            await it.storage.put("v", cycle)
        return str(await it.storage.get("v"))

    assert await inside(stub, work) == "None"


@pytest.mark.rule("S2.8")
async def test_delete_says_what_existed(full: Any) -> None:
    async def work(it: Probe) -> list[Any]:
        storage = it.storage
        return [
            await storage.delete("a"),
            await storage.delete("a"),
            await storage.delete(["b", "a", "ab", "missing"]),
        ]

    assert await inside(full, work) == [True, False, 2]


@pytest.mark.rule("S2.9")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, KEYS),
        ({"start": "a"}, KEYS[2:]),
        ({"start_after": "a"}, KEYS[3:]),
        ({"end": "b"}, KEYS[:4]),
        ({"prefix": "a"}, ["a", "ab"]),
        ({"prefix": "a", "start_after": "a"}, ["ab"]),
        ({"start": "B", "limit": 3}, KEYS[1:4]),
        ({"start": "a", "end": "é", "limit": 2}, ["a", "ab"]),
    ],
)
async def test_list_start_is_inclusive_the_rest_exclusive(
    full: Any, options: dict[str, Any], expected: list[str]
) -> None:
    assert await listed(full, **options) == expected


@pytest.mark.rule("S2.10")
async def test_reverse_turns_the_order_only(full: Any) -> None:
    found = await listed(full, start="a", end="é", reverse=True)
    assert found == ["b", "ab", "a"]
    assert await listed(full, start="a", reverse=True, limit=2) == [
        "\U0001f600",
        "\ufffd",
    ]


@pytest.mark.rule("S2.11")
@pytest.mark.parametrize(
    "options", [{"start": "a", "start_after": "a"}, {"limit": 0}, {"limit": -1}]
)
async def test_options_of_list_that_make_no_sense_are_type_errors(
    stub: Any, options: dict[str, Any]
) -> None:
    async def work(it: Probe) -> str:
        with pytest.raises(TypeError):
            await it.storage.list(**options)
        return "refused"

    assert await inside(stub, work) == "refused"


@pytest.mark.rule("S2.12")
async def test_an_empty_range_lists_nothing(full: Any) -> None:
    assert await listed(full, start="b", end="a") == []
    assert await listed(full, start="a", end="a") == []


@pytest.mark.rule("S2.13")
async def test_paging_with_start_after_and_limit_sees_each_key_once(
    fleet: Fleet, stub: Any
) -> None:
    async def work(it: Probe) -> list[str]:
        seen: list[str] = []
        # What isn't durable yet is in its place among what is.
        it.storage.put("!10-and-a-half", 1)
        it.storage.delete("!20")
        while page := await it.storage.list(
            start_after=seen[-1] if seen else None, limit=7
        ):
            seen += page
        return seen

    await cold(fleet, stub, last=1)
    expected = {f"!{n:02}" for n in range(64)} | {"last", "!10-and-a-half"}
    assert await inside(stub, work) == sorted(expected - {"!20"})


@pytest.mark.rule("S2.14")
async def test_writes_are_read_at_once_before_they_are_durable(
    fleet: Fleet, stub: Any
) -> None:
    seen: list[Any] = []

    async def work(it: Probe) -> None:
        it.storage.put("a", 1)
        it.storage.put("b", 2)
        it.storage.delete("b")
        seen.append(await it.storage.get("a"))
        seen.append(await it.storage.list())

    fleet.fail_commit(stub)
    with pytest.raises(DurableError):
        await inside(stub, work)
    assert seen == [1, {"a": 1}]


@pytest.mark.rule("S2.15")
async def test_what_get_returns_is_a_copy(stub: Any) -> None:
    async def work(it: Probe) -> Any:
        mine = [1]
        it.storage.put("a", mine)
        mine.append(2)
        (await it.storage.get("a")).append(3)
        return await it.storage.get("a")

    assert await inside(stub, work) == [1]
