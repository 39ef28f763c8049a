"""Strict JSON for what clients see: what isn't JSON is refused with its path."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import orjson

from durable.domain.errors import ValueRefused

_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_BIG = 1 << 63


def dumps(value: Any, what: str = "value") -> bytes:
    """Encode; dataclasses, msgspec Structs, pydantic models and datetimes are welcome.

    Raises:
        ValueRefused: with the path of the first thing that isn't JSON.
    """
    try:
        raw = orjson.dumps(value, default=_convert)
    except orjson.JSONEncodeError as error:
        raise _first_unsuitable(value, what, error) from error
    if b"null" in raw:
        _refuse_bad(value, what, nul_allowed=True)
    return raw


def dumps_strict(value: Any, what: str = "value") -> bytes:
    """Encode what is JSON already, and can be stored: no NaN, no NUL, no datetime.

    Raises:
        ValueRefused: with the path of the first thing that isn't JSON.
    """
    try:
        raw = orjson.dumps(value, option=_STRICT)
    except orjson.JSONEncodeError as error:
        raise _refusal(value, what) or ValueRefused(f"{what}: {error}") from error
    if b"null" in raw or b"\\u0000" in raw:
        _refuse_bad(value, what, nul_allowed=False)
    return raw


def loads(raw: str | bytes) -> Any:
    """Decode."""
    return orjson.loads(raw)


def _first_unsuitable(value: Any, what: str, error: Exception) -> ValueRefused:
    found = _refusal(value, what, nul_allowed=True, lenient=True)
    if found is not None:
        return found
    at = _find_unknown(value, what)
    return ValueRefused(f"{what}: {error}" if at is None else f"{at}, not JSON")


def _find_unknown(value: Any, path: str) -> str | None:
    """The first thing that alone can't be encoded; containers are looked into."""
    if isinstance(value, dict):
        items = [(f"{path}.{key}", item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(f"{path}[{i}]", item) for i, item in enumerate(value)]
    else:
        try:
            orjson.dumps(value, default=_convert)
        except orjson.JSONEncodeError:
            return f"{path} is a {type(value).__name__}"
        return None
    found = (_find_unknown(item, at) for at, item in items)
    return next((one for one in found if one), None)


def _convert(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError


def _refuse_bad(value: Any, what: str, *, nul_allowed: bool) -> None:
    refusal = _refusal(value, what, nul_allowed=nul_allowed, lenient=True)
    if refusal is not None:
        raise refusal


def _refusal(
    value: Any, what: str, *, nul_allowed: bool = False, lenient: bool = False
) -> ValueRefused | None:
    found = _find_bad(value, what, (), nul_allowed=nul_allowed, lenient=lenient)
    return None if found is None else ValueRefused(found)


def _find_bad(
    value: Any, path: str, above: tuple[int, ...], *, nul_allowed: bool, lenient: bool
) -> str | None:
    if isinstance(value, str):
        return _bad_text(value, path, nul_allowed=nul_allowed)
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return (
            None if -_BIG <= value < 2 * _BIG else f"{path} is an integer over 64 bits"
        )
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {value}, which isn't JSON"
    if id(value) in above or len(above) > 254:
        return f"{path} contains itself, or is nested too deeply"
    below = (*above, id(value))
    if isinstance(value, dict):
        items = []
        for key, item in value.items():
            if not isinstance(key, str):
                return f"{path} has a key that isn't a string: {key!r}"
            bad = _bad_text(key, f"a key of {path}", nul_allowed=nul_allowed)
            if bad:
                return bad
            items.append((f"{path}.{key}", item))
    elif isinstance(value, (list, tuple)):
        items = [(f"{path}[{i}]", item) for i, item in enumerate(value)]
    elif dataclasses.is_dataclass(value) and lenient:
        names = [f.name for f in dataclasses.fields(value)]
        items = [(f"{path}.{name}", getattr(value, name)) for name in names]
    else:
        return None if lenient else f"{path} is a {type(value).__name__}, not JSON"
    for at, item in items:
        bad = _find_bad(item, at, below, nul_allowed=nul_allowed, lenient=lenient)
        if bad:
            return bad
    return None


def _bad_text(text: str, path: str, *, nul_allowed: bool) -> str | None:
    if not nul_allowed and "\0" in text:
        return f"{path} contains the NUL character \\u0000, which can't be stored"
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        return f"{path} contains a lone surrogate, which isn't valid Unicode"
    return None
