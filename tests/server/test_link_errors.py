"""An error that crosses the link is what it was."""

from __future__ import annotations

import msgspec
import pytest

import durable
from durable import (
    BodyTooLarge,
    DurableError,
    Overloaded,
    RemoteError,
    SqlError,
    ValueRefused,
)
from server.link.errors import error_of, fault_of
from server.link.frames import Fault


def crossed(error: Exception) -> DurableError:
    sent = msgspec.msgpack.encode(fault_of(error))
    return error_of(msgspec.msgpack.decode(sent, type=Fault))


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("too many"),
        ValueRefused("value.a is a module"),
        BodyTooLarge("10 MiB"),
        RemoteError("no such thing", name="KeyError"),
        SqlError("no table", query="SELECT 1", position=8, sqlstate="42P01"),
        SqlError("refused", query="BEGIN"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("object_id", [None, "ab" * 16])
def test_an_error_of_the_runtime_keeps_its_class_and_what_it_has(
    error: DurableError, object_id: str | None
) -> None:
    error.durable_object_id = object_id
    found = crossed(error)
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def test_every_public_error_crosses_as_itself() -> None:
    public = [getattr(durable, name) for name in durable.__all__]
    kinds = [
        kind
        for kind in public
        if isinstance(kind, type)
        and issubclass(kind, DurableError)
        and kind not in (DurableError, RemoteError, SqlError)
    ]
    assert len(kinds) > 10
    assert [type(crossed(kind("text"))) for kind in kinds] == kinds


def test_another_is_a_remote_error_with_its_name() -> None:
    found = crossed(KeyError("a"))
    assert isinstance(found, RemoteError)
    assert (found.name, str(found)) == ("KeyError", "'a'")


def test_the_frame_of_an_older_node_is_understood() -> None:
    old = msgspec.msgpack.encode(["Overloaded", "too many", ""])
    found = error_of(msgspec.msgpack.decode(old, type=Fault))
    assert isinstance(found, Overloaded)
    assert found.durable_object_id is None
