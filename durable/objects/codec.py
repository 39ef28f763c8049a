"""Values ↔ what is stored and sent. Never pickle.

A value is JSON text wherever JSON can say it. What JSON lacks is a tagged mapping
``{"$": kind, "v": …}``: tuple, set, frozenset, bytes, datetime, date, Decimal, UUID,
big integers, NaN and infinities, mappings with other keys than strings. Top-level
``bytes``, and text with NUL characters (Postgres' JSON operators refuse those), are
stored as a blob with one leading byte that says which.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from durable.domain.errors import ValueRefused
from durable.domain.writes import Stored

MAX_DEPTH = 128
_RAW, _JSON = b"\x00", b"\x01"
_BIG = 1 << 63
_PLAIN = (str, bool, type(None))


def encode(value: Any) -> Stored:
    """Encode for storage.

    Raises:
        ValueRefused: nothing that can be kept, with the path of what was wrong.
    """
    if type(value) is bytes:
        return _RAW + value
    text = encode_text(value)
    if "\\u0000" in text:
        return _JSON + text.encode()
    return text


def encode_text(value: Any) -> str:
    """Encode as JSON text with tags; for messages between objects.

    Raises:
        ValueRefused: nothing that can be sent, with the path of what was wrong.
    """
    try:
        return orjson.dumps(_tagged(value, "value", 0)).decode()
    except orjson.JSONEncodeError as error:
        raise ValueRefused(f"value can't be stored: {error}") from error


def decode(stored: Stored) -> Any:
    """Read back what ``encode`` or ``encode_text`` made, as a fresh copy."""
    if isinstance(stored, bytes):
        if stored[:1] == _RAW:
            return stored[1:]
        stored = stored[1:].decode()
    value = orjson.loads(stored)
    if '"$"' in stored:
        return _untagged(value)
    return value


def _tagged(value: Any, path: str, depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return (
            value
            if -_BIG <= value < 2 * _BIG
            else {"$": "int", "v": format(value, "x")}
        )
    if kind is float:
        return value if math.isfinite(value) else {"$": "float", "v": repr(value)}
    if depth > MAX_DEPTH:
        raise ValueRefused(f"{path} is nested too deeply, or contains itself")
    if kind is dict:
        return _tagged_dict(value, path, depth)
    if kind is list:
        return [_tagged(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)]
    return _tagged_other(value, path, depth)


def _tagged_dict(value: dict[Any, Any], path: str, depth: int) -> Any:
    if "$" not in value and all(type(k) is str for k in value):
        return {k: _tagged(v, f"{path}.{k}", depth + 1) for k, v in value.items()}
    pairs = [
        [
            _tagged(k, f"a key of {path}", depth + 1),
            _tagged(v, f"{path}[{k!r}]", depth + 1),
        ]
        for k, v in value.items()
    ]
    return {"$": "dict", "v": pairs}


def _tagged_other(value: Any, path: str, depth: int) -> Any:
    for kind, name in _SEQUENCES:
        if isinstance(value, kind):
            items = [_tagged(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)]
            return {"$": name, "v": items}
    for kind, name, to_text, _ in _SCALARS:
        if isinstance(value, kind):
            return {"$": name, "v": to_text(value)}
    for base in _BASES:
        if isinstance(value, base):
            # A subclass (an enum …) is kept as what it extends.
            return _tagged(base(value), path, depth)
    raise ValueRefused(
        f"{path} is a {type(value).__name__}, which can't be stored or sent"
    )


_BASES: tuple[Any, ...] = (str, int, float, dict, list)
_SEQUENCES: tuple[tuple[Any, str], ...] = (
    (tuple, "tuple"),
    (set, "set"),
    (frozenset, "frozenset"),
)
_SCALARS: tuple[tuple[type, str, Callable[[Any], str], Callable[[str], Any]], ...] = (
    (bytes, "bytes", lambda v: base64.b64encode(v).decode(), base64.b64decode),
    (bytearray, "bytes", lambda v: base64.b64encode(v).decode(), base64.b64decode),
    (datetime, "datetime", datetime.isoformat, datetime.fromisoformat),
    (date, "date", date.isoformat, date.fromisoformat),
    (Decimal, "decimal", str, Decimal),
    (UUID, "uuid", str, UUID),
)
_READ_SEQUENCES: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
}
_READ_SCALARS: dict[str, Callable[[str], Any]] = {
    **{name: read for _, name, _, read in _SCALARS},
    "int": lambda v: int(v, 16),
    "float": float,
}


def _untagged(value: Any) -> Any:
    if type(value) is list:
        return [_untagged(v) for v in value]
    if type(value) is not dict:
        return value
    kind = value.get("$")
    if kind is None:
        return {k: _untagged(v) for k, v in value.items()}
    if kind in _READ_SCALARS:
        return _READ_SCALARS[kind](value["v"])
    return _READ_SEQUENCES[kind](_untagged(value["v"]))
