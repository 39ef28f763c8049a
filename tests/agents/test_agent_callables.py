"""Arguments of callables and types of state: converted by annotation, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

import msgspec
import pytest
from pydantic import BaseModel

from agents import Agent, StreamingResponse, callable
from agents.callables import methods_of, refusal
from agents.typed import Mismatch, argument_converter, state_codec, state_type_of
from durable import ValueRefused

T = TypeVar("T")


@dataclass
class Point:
    x: int
    y: int = 0


class Struct(msgspec.Struct):
    n: int


class Model(BaseModel):
    n: int


class Trip(TypedDict):
    days: int


def converted(function: Callable[..., Any], *args: Any, skip: int = 0) -> list[Any]:
    return argument_converter(function, skip)(args)


def test_arguments_become_what_the_annotations_say() -> None:
    def method(
        self: Any, p: Point, s: Struct, m: Model, n: int, many: list[Point]
    ) -> None: ...

    given = [{"x": 1}, {"n": 2}, {"n": 3}, 4, [{"x": 5, "y": 6}]]
    expected = [Point(1), Struct(2), Model(n=3), 4, [Point(5, 6)]]
    assert converted(method, *given, skip=1) == expected


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((1, "x"), "Argument 'two'"),
        (("x", 1), "Argument 'one'"),
        ((1, 2, 3, "x"), "Argument 'rest'"),
        ((1, True), "Argument 'two'"),
    ],
)
def test_a_misfit_names_the_argument(args: tuple[Any, ...], said: str) -> None:
    def method(one: int, two: int = 0, *rest: int) -> None: ...

    with pytest.raises(Mismatch, match=said):
        converted(method, *args)


def test_what_says_nothing_to_json_is_handed_on() -> None:
    def method(a: Any, b: object, c: T, d: Any, *rest: Any) -> None: ...

    method.__annotations__["d"] = "NotThere"

    values: list[Any] = [{"x": 1}, None, "t", [], 6]
    assert converted(method, *values) == values


def test_a_missing_argument_is_python_s_own_error() -> None:
    def method(one: int, two: int) -> None: ...

    assert converted(method, 1) == [1]


@pytest.mark.parametrize("kind", [Point, Struct, Model])
def test_a_typed_state_is_validated_both_ways(kind: Any) -> None:
    codec = state_codec(kind)
    name = "x" if kind is Point else "n"
    value = codec.loads(b'{"%s": 1}' % name.encode())
    assert isinstance(value, kind)
    assert codec.loads(codec.dumps(value)) == value
    for bad in ({name: "text"}, {}, [1], None):
        with pytest.raises((Mismatch, ValueRefused)):
            codec.dumps(bad)
    with pytest.raises(Mismatch):
        codec.loads(b'{"other": 1}')


def test_a_typed_dict_is_for_the_type_checker_alone() -> None:
    codec = state_codec(Trip)
    assert codec.loads(codec.dumps({"anything": 1})) == {"anything": 1}
    with pytest.raises(ValueRefused, match=r"state\.when"):
        codec.dumps({"when": {1}})


def test_the_state_s_type_is_read_from_the_base() -> None:
    class Plain(Agent):
        pass

    class Typed(Agent[Any, Point]):
        pass

    class Below(Typed):
        pass

    assert state_type_of(Plain) is None
    assert state_type_of(Typed) is Point
    assert isinstance(Below._codec.loads(b'{"x": 1}'), Point)


def test_callables_are_found_in_the_class_and_its_bases() -> None:
    class Base(Agent):
        @callable
        def inherited(self) -> None: ...

        @callable(description="Hidden below")
        def shadowed(self) -> None: ...

        def private(self) -> None: ...

    class Thing(Base):
        @callable(streaming=True, description="Counts")
        async def count(self, stream: StreamingResponse, n: int) -> None: ...

        def shadowed(self) -> None: ...

    found = methods_of(Thing)
    assert set(found) == {"inherited", "count"}
    assert (found["count"].options.streaming, found["count"].options.description) == (
        True,
        "Counts",
    )
    thing = object.__new__(Thing)
    assert refusal(thing, "private") == "Method private is not callable"
    assert refusal(thing, "absent") == "Method absent does not exist"
    assert refusal(thing, "__class__") == "Method __class__ does not exist"


def test_only_methods_can_be_marked() -> None:
    with pytest.raises(TypeError, match="marks a plain or async method"):
        callable(print)
