"""On which line of a TOML file a key stands: what ``tomllib`` doesn't tell.

The text was accepted by ``tomllib`` before, so nothing is checked here: it is only
walked through, with just enough of the grammar to know what is a key.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import Final

Path = tuple[str | int, ...]
"""Keys, and the index (from 0) where a key holds a list."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_BLANK: Final = re.compile(r"[ \t\r]*")
# Between the parts of a list also line ends and comments.
_GAP: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'  # up to two quotes may precede the closing three
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]*")


class Lines:
    """The lines of the keys of one text, asked for by path."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self._lines: dict[Path, int] = {}
        self._lengths: dict[Path, int] = {}  # of arrays of tables
        self._document()

    def of(self, path: Path) -> int:
        """The line (from 1) of a key, or of the nearest table around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    @property
    def known(self) -> frozenset[Path]:
        """All paths that were found."""
        return frozenset(self._lines)

    def _document(self) -> None:
        table: Path = ()
        while self._skip(_GAP) < len(self._text):
            if self._text[self._at] != "[":
                self._pair(table)
                continue
            is_array = self._text.startswith("[[", self._at)
            self._at += 2 if is_array else 1
            line = self._line()
            table = self._table(self._keys(), is_array)
            self._note(table, line)
            self._at += 2 if is_array else 1

    def _table(self, keys: list[str], is_array: bool) -> Path:
        """The path of a header: it means the latest element of each array in it."""
        path: Path = ()
        for depth, key in enumerate(keys, 1):
            path = (*path, key)
            if is_array and depth == len(keys):
                self._lengths[path] = self._lengths.get(path, 0) + 1
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = (*table, *self._keys())
        self._note(path, line)
        self._at += 1  # the sign =
        self._skip(_BLANK)
        self._value(path)

    def _keys(self) -> list[str]:
        """A key, with dots or without; ends at what follows it."""
        keys: list[str] = []
        while True:
            self._skip(_BLANK)
            quoted = self._text[self._at] in "\"'"
            raw = self._take(_STRING if quoted else _BARE)
            keys.append(tomllib.loads(f"key = {raw}")["key"] if quoted else raw)
            self._skip(_BLANK)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, path: Path) -> None:
        first = self._text[self._at]
        if first == "[":
            self._list(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._take(_STRING if first in "\"'" else _SCALAR)

    def _list(self, path: Path) -> None:
        index = 0
        while not self._closes("]"):
            self._note((*path, index), self._line())
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> None:
        while not self._closes("}"):
            self._pair(path)

    def _closes(self, bracket: str) -> bool:
        """Steps over the opening bracket or a comma; whether the end has come."""
        self._skip(_GAP)
        if self._text[self._at] != bracket:
            self._at += 1
            self._skip(_GAP)
        if self._text[self._at] != bracket:
            return False
        self._at += 1
        return True

    def _note(self, path: Path, line: int) -> None:
        for depth in range(1, len(path) + 1):
            self._lines.setdefault(path[:depth], line)

    def _line(self) -> int:
        return bisect_right(self._starts, self._at)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        self._take(pattern)
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None  # tomllib has accepted the text
        self._at = match.end()
        return match[0]
