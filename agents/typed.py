"""Values ↔ annotated types: an agent's state, and the arguments of a callable.

Dataclasses and msgspec Structs are converted by msgspec, pydantic models by pydantic
(only imported when a model is used). TypedDicts and everything unannotated pass.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_origin

import msgspec

from durable import json_text


class Mismatch(ValueError):
    """A value doesn't fit its type; the message says where."""


class StateCodec:
    """State as the agent's code sees it ↔ JSON."""

    def dumps(self, value: Any) -> bytes:
        """Encode; ValueRefused or Mismatch with the path of what is wrong."""
        return json_text.dumps_strict(value, "state")

    def loads(self, raw: str | bytes) -> Any:
        """Decode, a fresh value each time."""
        return json_text.loads(raw)


class _MsgspecState(StateCodec):
    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._decoder = msgspec.json.Decoder(kind)

    def dumps(self, value: Any) -> bytes:
        plain = msgspec.to_builtins(value)
        convert(plain, self._kind, "state")
        return json_text.dumps_strict(plain, "state")

    def loads(self, raw: str | bytes) -> Any:
        try:
            return self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise Mismatch(f"state: {error}") from error


class _PydanticState(StateCodec):
    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def dumps(self, value: Any) -> bytes:
        model = convert(value, self._kind, "state")
        return json_text.dumps_strict(model.model_dump(mode="json"), "state")

    def loads(self, raw: str | bytes) -> Any:
        return convert(json_text.loads(raw), self._kind, "state")


def state_codec(kind: Any) -> StateCodec:
    """How a state type is kept."""
    if _is_pydantic(kind):
        return _PydanticState(kind)
    if _is_class(kind) and (
        dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct)
    ):
        return _MsgspecState(kind)
    return StateCodec()


def convert(value: Any, kind: Any, what: str) -> Any:
    """Make a JSON value into its type.

    Raises:
        Mismatch: it doesn't fit.
    """
    if _is_pydantic(kind):
        if isinstance(value, kind):
            return value
        try:
            return kind.model_validate(value)
        except ValueError as error:
            raise Mismatch(f"{what}: {_pydantic_text(error)}") from error
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Mismatch(f"{what}: {error}") from error


def argument_converter(
    function: Callable[..., Any], skip: int
) -> Callable[[Sequence[Any]], list[Any]]:
    """Converts positional arguments by the function's annotations.

    ``skip`` leading parameters (self, a stream) aren't the caller's.
    """
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):
        # An annotation that only a type checker can resolve: nothing is converted.
        hints = {}
    kinds = [(p.name, hints.get(p.name)) for p in parameters]
    rest = next(
        (
            k
            for p, k in zip(parameters, kinds, strict=True)
            if p.kind is p.VAR_POSITIONAL
        ),
        None,
    )
    steps = [
        (name, kind if _convertible(kind) else None)
        for (name, kind), p in zip(kinds, parameters, strict=True)
        if p.kind is not p.VAR_POSITIONAL
    ]
    if not any(kind for _, kind in steps) and not (rest and _convertible(rest[1])):
        return list

    def converted(args: Sequence[Any]) -> list[Any]:
        result = []
        for i, arg in enumerate(args):
            name, kind = steps[i] if i < len(steps) else (rest or ("", None))
            if kind is None or (type(arg) is kind and kind in _EXACT):
                result.append(arg)
            else:
                result.append(convert(arg, kind, f"Argument {name!r}"))
        return result

    return converted


_EXACT = {int, str, float, bool}


def _convertible(kind: Any) -> bool:
    if kind is None or kind is Any or kind is object:
        return False
    if _is_pydantic(kind):
        return True
    if isinstance(kind, typing.TypeVar):
        return False
    try:
        msgspec.convert(_Nothing(), kind)
    except msgspec.ValidationError:
        return True
    except TypeError:
        # No type that JSON values can be made into.
        return False
    return True


class _Nothing:
    """Fits no type."""


def _is_class(kind: Any) -> bool:
    return isinstance(kind, type) and get_origin(kind) is None


def _is_pydantic(kind: Any) -> bool:
    return _is_class(kind) and hasattr(kind, "model_validate")


def _pydantic_text(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors(include_url=False)[0]
    at = ".".join(str(part) for part in first["loc"])
    return f"{first['msg']} - at `{at}`" if at else str(first["msg"])


def state_type_of(cls: type) -> Any:
    """The State of ``class Trip(Agent[Env, State])``, or None."""
    for base in getattr(cls, "__orig_bases__", ()):
        args = get_args(base)
        origin = get_origin(base)
        if origin is None or not args:
            continue
        if len(args) > 1 and not isinstance(args[1], typing.TypeVar):
            return args[1]
    return None
