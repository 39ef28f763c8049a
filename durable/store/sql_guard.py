"""The first wall around an agent's SQL: a parsed statement against allow-lists.

An agent's code is its operator's, its inputs are not: a statement that an attacker
shaped must not get out of the agent's own schema. Each node of the parsed statement
must be of a known kind, and each relation, function, type and option must be one that
is allowed by name. What isn't known is refused. The second wall, in Postgres, is the
role that the statement runs under.

One trap shapes the check of column names: Postgres reads ``x.f`` as the call ``f(x)``
when ``x`` has no column ``f``, so ``('SELECT …'::text).ts_stat`` runs a query.
Therefore a field may not be named like a function or type of the server that isn't
allowed; ``reserved`` is the list of those.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pglast import ast, parse_sql
from pglast.parser import ParseError

from durable.domain.errors import SqlError
from durable.store import sql_names
from durable.store.sql_depth import too_deep
from durable.store.sql_errors import sql_error
from durable.store.sql_rules import (
    NODE_RULES,
    NODES,
    STATEMENTS,
    RefusedError,
    integer_columns,
    is_write,
)

MAX_STATEMENT_BYTES = 100_000
_CACHED_STATEMENTS = 2_000
_CACHED_CHARACTERS = 4_000_000


@dataclass(frozen=True, slots=True)
class Edit:
    """``old`` characters at ``start`` of the user's text became ``new`` ones."""

    start: int
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class GuardedStatement:
    """One statement that may run. ``start`` is where it begins in the user's text."""

    text: str
    start: int
    edits: tuple[Edit, ...]

    def position(self, sent: int) -> int:
        """From a 1-based position in ``text`` to one in what the user wrote."""
        for edit in self.edits:
            if sent - 1 >= edit.start + edit.new:
                sent += edit.old - edit.new
        return self.start + sent


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the guard lets through: the statements, to be run in order.

    ``parameters`` is the highest placeholder, all of them in the last statement;
    ``read_only`` is true only if no statement can change anything.
    """

    query: str
    statements: tuple[GuardedStatement, ...]
    parameters: int
    read_only: bool


class SqlGuard:
    """Checks statements, and remembers by text those that passed."""

    def __init__(self, server_names: Iterable[str]) -> None:
        """``server_names``: the server's types, and functions of one argument."""
        self._reserved = frozenset(server_names) - sql_names.FUNCTIONS - sql_names.TYPES
        self._passed: OrderedDict[str, Guarded] = OrderedDict()
        self._characters = 0

    def check(self, query: str) -> Guarded:
        """Let a text through, or say what in it isn't permitted.

        Raises:
            SqlError: it doesn't parse, or reaches for more than the agent's schema.
        """
        guarded = self._passed.get(query)
        if guarded is not None:
            self._passed.move_to_end(query)
            return guarded
        guarded = self._examine(query)
        self._passed[query] = guarded
        self._characters += len(query)
        while (
            len(self._passed) > _CACHED_STATEMENTS
            or self._characters > _CACHED_CHARACTERS
        ):
            dropped, _ = self._passed.popitem(last=False)
            self._characters -= len(dropped)
        return guarded

    def _examine(self, query: str) -> Guarded:
        raws = _parse(query)
        statements: list[GuardedStatement] = []
        highest = 0
        read_only = True
        for raw in raws:
            try:
                found = self._walk(raw.stmt)
            except RefusedError as refused:
                raise _error(
                    f"{refused} is not permitted in agent SQL",
                    query,
                    refused.position,
                    hint=refused.hint,
                    sqlstate="42501",
                ) from None
            if highest:
                raise _error(
                    "only the last of several statements may have placeholders", query
                )
            highest = found.parameters
            read_only = read_only and not found.writes
            statements.append(_cut(query, raw))
        return Guarded(query, tuple(statements), highest, read_only)

    def _walk(self, statement: ast.Node) -> _Found:
        kind = type(statement).__name__
        if kind not in STATEMENTS:
            raise RefusedError(sql_names.STATEMENT_HINTS.get(kind, _words(kind)))
        found = _Found()
        stack: list[ast.Node] = [statement]
        while stack:
            node = stack.pop()
            kind = type(node).__name__
            if kind not in NODES:
                name = sql_names.STATEMENT_HINTS.get(kind, _words(kind))
                raise RefusedError(name, getattr(node, "location", None))
            rule = NODE_RULES.get(kind)
            if rule is not None:
                rule(node)
            if kind in ("ColumnRef", "A_Indirection"):
                self._check_fields(node)
            elif isinstance(node, ast.ParamRef):
                found.parameters = max(found.parameters, node.number or 0)
            found.writes = found.writes or is_write(node)
            stack.extend(_children(node))
        return found

    def _check_fields(self, node: Any) -> None:
        """Refuse ``x.f`` where ``f`` could be a call of a function."""
        if isinstance(node, ast.ColumnRef):
            names, location = (node.fields or ())[1:], node.location
        else:
            names, location = node.indirection, None
        for name in names:
            if isinstance(name, ast.String) and name.sval in self._reserved:
                raise RefusedError(f"a field named {name.sval}", location)


class _Found:
    __slots__ = ("parameters", "writes")

    def __init__(self) -> None:
        self.parameters = 0
        self.writes = False


def _parse(query: str) -> tuple[Any, ...]:
    if "\0" in query:
        raise _error("a statement must not contain the NUL character", query)
    try:
        size = len(query.encode())
    except UnicodeEncodeError:
        raise _error("a statement must be valid Unicode", query) from None
    if size > MAX_STATEMENT_BYTES:
        raise _error(
            f"a statement is at most {MAX_STATEMENT_BYTES} bytes, this has {size}; "
            "pass values as parameters",
            query,
            sqlstate="54000",
        )
    try:
        if too_deep(query):
            raise _error("the statement is nested too deeply", query, sqlstate="54001")
        raws: tuple[Any, ...] = parse_sql(query)
    except ParseError as error:
        message = str(error.args[0])
        at = error.args[1] if len(error.args) > 1 else None
        if len(message) > 200:
            message = message[:200] + "…"
        hint = _syntax_hint(query)
        raise _error(message, query, at, hint=hint, sqlstate="42601") from None
    if not raws:
        raise _error("the statement is empty", query, sqlstate="42601")
    return raws


def _children(node: ast.Node) -> Iterator[ast.Node]:
    values: list[Any] = [getattr(node, name) for name in node]
    while values:
        value = values.pop()
        if isinstance(value, ast.Node):
            yield value
        elif isinstance(value, tuple):
            values.extend(value)


def _cut(query: str, raw: Any) -> GuardedStatement:
    """The raw statement's own text, its columns of INTEGER made 64 bits wide."""
    start = raw.stmt_location or 0
    length = raw.stmt_len or len(query) - start
    text = query[start : start + length]
    edits: list[Edit] = []
    shift = 0
    for at in sorted(integer_columns(raw.stmt)):
        word = re.compile(r"int(eger)?\b", re.IGNORECASE).match(query, at)
        if word is None:
            continue
        begin = at - start + shift
        old = word.end() - at
        text = f"{text[:begin]}bigint{text[begin + old :]}"
        edits.append(Edit(begin, old, len("bigint")))
        shift += len("bigint") - old
    # Mapped backwards from the end of the sent text, the last edit first.
    return GuardedStatement(text, start, tuple(reversed(edits)))


def _syntax_hint(query: str) -> str | None:
    for pattern, hint in sql_names.SYNTAX_HINTS:
        if re.search(pattern, query, re.IGNORECASE):
            return hint
    return None


def _words(kind: str) -> str:
    """CreateRoleStmt → CREATE ROLE."""
    parts = re.findall(r"[A-Z][a-z]*", kind.removesuffix("Stmt").replace("_", ""))
    return " ".join(parts).upper()


def _error(
    message: str,
    query: str,
    at: int | None = None,
    *,
    hint: str | None = None,
    sqlstate: str | None = None,
) -> SqlError:
    position = None if at is None or at < 0 else min(at, len(query)) + 1
    return sql_error(message, query, position, hint=hint, sqlstate=sqlstate)
