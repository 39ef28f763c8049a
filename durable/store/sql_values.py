"""Python values ↔ Postgres values, as people who come from SQLite expect them.

**Parameters** behave like the same value written as a literal in the statement: a
string has the type that its place asks for, an int is ``integer``, ``bigint`` or
``numeric`` by its size, a dict or list is ``jsonb``. Where Postgres then finds a type
that doesn't fit (an int for a text column), ``readings`` are the other ways to offer
the same values, in the order in which they are tried; all but the first leave the
choice of a type to Postgres.

**Results** are JSON-ready: times are ISO 8601 text, uuids and all other types without
a JSON form are their text, ``numeric`` is a number. Only ``bytea`` stays bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.abc import Transformer
from psycopg.adapt import AdaptersMap, Buffer, Loader
from psycopg.adapt import Transformer as NewTransformer
from psycopg.pq import Format
from psycopg.pq.abc import PGresult
from psycopg.types import TypeInfo
from psycopg.types.multirange import MultirangeInfo
from psycopg.types.range import RangeInfo

from durable.store.sql_errors import sql_error

_UNKNOWN, _TEXT, _BYTEA, _JSONB = 0, 25, 17, 3802
_INT4, _INT8, _NUMERIC, _BOOL, _FLOAT8 = 23, 20, 1700, 16, 701


@dataclass(frozen=True, slots=True)
class Bound:
    """Parameters as they are sent: values, types, formats."""

    values: list[bytes | None]
    types: list[int]
    formats: list[int]


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to offer the parameters of a statement; ``key`` is what it is about."""

    number: int
    bound: Bound
    key: tuple[str, tuple[int, ...]]


class ReadingMemory:
    """Which reading suited a statement the last time, so that it is tried first."""

    _KEPT = 2_000

    def __init__(self) -> None:
        self._suited: dict[tuple[str, tuple[int, ...]], int] = {}

    def readings(self, query: str, params: Sequence[object]) -> Iterator[Reading]:
        """All readings of these parameters, the one that suited first.

        Raises:
            SqlError: a value can't be sent to Postgres; it names the parameter.
        """
        dumpers = _dumpers(params)
        literal = _bound(params, query, dumpers[0])
        key = (query, tuple(literal.types))
        suited = self._suited.get(key, 0)
        if suited:
            yield Reading(suited, _bound(params, query, dumpers[suited]), key)
        for number, dump in enumerate(dumpers):
            if number != suited or not suited:
                bound = _bound(params, query, dump) if number else literal
                yield Reading(number, bound, key)

    def remember(self, reading: Reading) -> None:
        """This one suited."""
        if reading.number == self._suited.get(reading.key, 0):
            return
        if len(self._suited) >= self._KEPT:
            del self._suited[next(iter(self._suited))]
        self._suited[reading.key] = reading.number


_Dumper = Callable[[Any], tuple[int, bytes | None]]


def _dumpers(params: Sequence[object]) -> list[_Dumper]:
    """The readings that differ for these parameters; the literal one is the first."""
    lists = any(isinstance(p, list | tuple) for p in params)
    dumpers: list[_Dumper] = [_literal]
    if any(p is None or isinstance(p, str) for p in params):
        dumpers.append(_literal_with_text)
    if lists:
        dumpers.append(_literal_with_arrays)
    if any(not (p is None or isinstance(p, str | bytes)) for p in params):
        dumpers.append(_untyped)
        if lists:
            dumpers.append(_untyped_with_arrays)
    return dumpers


def _bound(params: Sequence[object], query: str, dump: _Dumper) -> Bound:
    values: list[bytes | None] = []
    types: list[int] = []
    formats: list[int] = []
    for number, param in enumerate(params, 1):
        try:
            oid, value = dump(param)
        except (TypeError, ValueError, RecursionError) as error:
            raise sql_error(f"parameter ${number}: {error}", query) from error
        if value is not None and oid != _BYTEA and b"\0" in value:
            raise sql_error(f"parameter ${number} contains a NUL character", query)
        values.append(value)
        types.append(oid)
        formats.append(Format.BINARY if oid == _BYTEA else Format.TEXT)
    return Bound(values, types, formats)


def _literal(value: Any) -> tuple[int, bytes | None]:
    if value is None:
        return _UNKNOWN, None
    for kinds, dump in _LITERALS:
        if isinstance(value, kinds):
            return dump(value)
    raise TypeError(f"a {type(value).__name__} can't be a parameter of a statement")


def _literal_with_text(value: Any) -> tuple[int, bytes | None]:
    oid, sent = _literal(value)
    return (_TEXT if oid == _UNKNOWN else oid), sent


def _literal_with_arrays(value: Any) -> tuple[int, bytes | None]:
    if isinstance(value, list | tuple):
        return _UNKNOWN, _array(value).encode()
    return _literal(value)


def _untyped(value: Any) -> tuple[int, bytes | None]:
    oid, sent = _literal(value)
    if oid == _BOOL:
        sent = b"1" if value else b"0"
    return (oid if oid == _BYTEA else _UNKNOWN), sent


def _untyped_with_arrays(value: Any) -> tuple[int, bytes | None]:
    if isinstance(value, list | tuple):
        return _UNKNOWN, _array(value).encode()
    return _untyped(value)


def _int(value: int) -> tuple[int, bytes]:
    bits = value.bit_length()
    oid = _INT4 if bits < 32 else _INT8 if bits < 64 else _NUMERIC
    return oid, b"%d" % value


def _datetime(value: datetime) -> tuple[int, bytes]:
    return (1114 if value.tzinfo is None else 1184), value.isoformat().encode()


def _time(value: time) -> tuple[int, bytes]:
    return (1083 if value.tzinfo is None else 1266), value.isoformat().encode()


def _interval(value: timedelta) -> tuple[int, bytes]:
    text = f"{value.days} days {value.seconds}.{value.microseconds:06} seconds"
    return 1186, text.encode()


def _json(value: Any) -> tuple[int, bytes]:
    # Not NaN: it has no JSON form, and Postgres would refuse it less clearly.
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, default=_plain)
    if "\\u0000" in text:
        raise ValueError("JSON text in Postgres can't hold the NUL character")
    return _JSONB, text.encode()


def _plain(value: object) -> object:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


# In this order: bool is an int, datetime is a date.
_LITERALS: tuple[tuple[Any, Callable[[Any], tuple[int, bytes]]], ...] = (
    (str, lambda v: (_UNKNOWN, v.encode())),
    (bool, lambda v: (_BOOL, b"t" if v else b"f")),
    (int, _int),
    (float, lambda v: (_FLOAT8, repr(float(v)).encode())),
    (bytes | bytearray | memoryview, lambda v: (_BYTEA, bytes(v))),
    (datetime, _datetime),
    (date, lambda v: (1082, v.isoformat().encode())),
    (time, _time),
    (timedelta, _interval),
    (UUID, lambda v: (2950, str(v).encode())),
    (Decimal, lambda v: (_NUMERIC, str(v).encode())),
    (dict | list | tuple | Mapping, _json),
)


def _array(items: Sequence[object]) -> str:
    """A list as the text of a Postgres array."""
    parts = []
    for item in items:
        if item is None:
            parts.append("NULL")
        elif isinstance(item, list | tuple):
            parts.append(_array(item))
        elif isinstance(item, bytes | bytearray | memoryview):
            parts.append(f'"\\\\x{bytes(item).hex()}"')
        else:
            _, sent = _untyped(item)
            text = (sent or b"").decode().replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'"{text}"')
    return "{" + ",".join(parts) + "}"


class _Text(Loader):
    def load(self, data: Buffer) -> str:
        return bytes(data).decode()


class _Number(Loader):
    """``numeric``: an int if it has no fraction, else a float."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        if b"." in text or text[-1:] in b"Nyn":  # NaN, Infinity
            return float(text)
        return int(text)


class _Time(Loader):
    """2024-05-06 07:08:09.5+00 → 2024-05-06T07:08:09.5+00:00."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        if text[10:11] == " ":
            text = f"{text[:10]}T{text[11:]}"
        if text[-3:-2] in ("+", "-") and ":" in text:
            text += ":00"
        return text


def _result_adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    for info in psycopg.adapters.types:
        if isinstance(info, RangeInfo | MultirangeInfo):
            adapters.register_loader(info.oid, _Text)
    for name in (
        "date", "interval", "uuid", "inet", "cidr", "record", "oid", "money", "time"
    ):  # fmt: skip
        adapters.register_loader(_type(name).oid, _Text)
    for name in ("timetz", "timestamp", "timestamptz"):
        adapters.register_loader(_type(name).oid, _Time)
    adapters.register_loader(_NUMERIC, _Number)
    return adapters


def _type(name: str) -> TypeInfo:
    info = psycopg.adapters.types.get(name)
    if info is None:
        raise LookupError(f"psycopg knows no type {name}")
    return info


RESULT_ADAPTERS = _result_adapters()


def load_rows(result: PGresult, transformer: Transformer) -> list[tuple[Any, ...]]:
    """The values of a result, row by row."""
    if result.nfields == 0:
        return []
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)


def load_native_rows(result: PGresult) -> list[tuple[Any, ...]]:
    """The values of a result as psycopg reads them: dates are dates."""
    return load_rows(result, NewTransformer())


def column_names(result: PGresult) -> tuple[str, ...]:
    """The names of a result's columns, in order."""
    return tuple((result.fname(i) or b"").decode() for i in range(result.nfields))


def from_template(template: Any) -> tuple[str, list[object]]:
    """A t-string (Python 3.14) → the statement with placeholders, and its parameters.

    Raises:
        ValueError: an interpolation has a conversion or a format: it is sent as a
            value and never becomes text of the statement.
    """
    text = [template.strings[0]]
    params: list[object] = []
    for interpolation, following in zip(
        template.interpolations, template.strings[1:], strict=True
    ):
        if interpolation.conversion or interpolation.format_spec:
            raise ValueError(
                f"{{{interpolation.expression}}}: a value in a statement is sent as "
                "it is; leave the conversion or format out"
            )
        params.append(interpolation.value)
        text.append(f"${len(params)}{following}")
    return "".join(text), params


def is_template(statement: object) -> bool:
    """Whether this is a ``string.templatelib.Template`` or looks like one."""
    return hasattr(statement, "strings") and hasattr(statement, "interpolations")
