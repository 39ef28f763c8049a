"""A TOML file as tables whose every error names file, line and key."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from server import config_lines
from server.config_lines import Lines

_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class ConfigError(Exception):
    """The configuration can't be used: ``file:line: key: what and why``."""


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed file."""

    file: str  # as errors show it
    values: Mapping[str, Any]
    lines: Lines

    def where(self, path: config_lines.Path) -> str:
        """``file:line: key``."""
        return f"{self.file}:{self.lines.of(path)}: {_shown(path)}"


def read_document(path: Path) -> Document:
    """Parse a file.

    Raises:
        ConfigError: it can't be read, or isn't TOML.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path.name}: can't be read: {error.strerror}") from error
    try:
        text = data.decode()
        return Document(path.name, tomllib.loads(text), Lines(text))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path.name}:{line}: the file must be UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.search(str(error))
        line = int(found[1]) if found and found[1] else data.count(b"\n") + 1
        reason = _PLACE.sub("", str(error))
        raise ConfigError(f"{path.name}:{line}: not TOML: {reason}") from None


def _shown(path: config_lines.Path) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a document; a missing one is empty."""

    document: Document
    path: config_lines.Path
    values: Mapping[str, Any]

    def where(self, key: str) -> str:
        """``file:line: key``, for a key that may be missing."""
        return self.document.where((*self.path, key))

    def error(self, key: str, text: str) -> ConfigError:
        """An error about one key."""
        return ConfigError(f"{self.where(key)}: {text}")

    def only(
        self, known: Collection[str], hints: Mapping[str, str] | None = None
    ) -> None:
        """Refuse keys that nothing reads; ``hints`` say more about some of them."""
        for key in self.values:
            if key in known:
                continue
            hint = (hints or {}).get(key)
            near = difflib.get_close_matches(key, known, n=1)
            if hint is None and near:
                hint = f"did you mean {near[0]}?"
            if hint is None:
                hint = f"here may stand {', '.join(sorted(known))}"
            raise self.error(key, f"unknown key; {hint}")

    def text(self, key: str) -> str | None:
        """A text, or None where the key is missing."""
        if key not in self.values:
            return None
        value = self.values[key]
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"must be a text that is not empty, {_not(value)}")
        return value

    def required(self, key: str) -> str:
        """A text that must be there."""
        text = self.text(key)
        if text is None:
            raise self.error(key, "is missing")
        return text

    def name(self, key: str) -> str:
        """A required text that is a Python name."""
        text = self.required(key)
        if not text.isidentifier():
            raise self.error(key, f"{text!r} is no Python name")
        return text

    def names(self, key: str) -> tuple[str, ...]:
        """A list of Python names, each once."""
        texts = self.texts(key)
        for index, text in enumerate(texts):
            if not text.isidentifier():
                raise self._item(key, index, f"{text!r} is no Python name")
        return texts

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, each once; none where the key is missing."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self.error(key, f"must be a list of texts, {_not(value)}")
        for index, item in enumerate(value):
            if not isinstance(item, str) or not item.strip():
                raise self._item(key, index, f"must be a text, {_not(item)}")
            if item in value[:index]:
                raise self._item(key, index, f"{item!r} is in the list twice")
        return tuple(value)

    def table(self, key: str) -> Table:
        """The table below a key."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table, [{key}], {_not(value)}")
        return Table(self.document, (*self.path, key), value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, {_not(value)}")
        return value

    def choice(self, key: str, among: Collection[str], default: str) -> str:
        """One of a few texts."""
        value = self.values.get(key, default)
        if value not in among:
            raise self.error(key, f"must be one of {', '.join(among)}")
        return str(value)

    def tables(self, key: str) -> list[Table]:
        """The list of tables below a key."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self.error(key, f"must be a list of tables, {_not(value)}")
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise self._item(key, index, f"must be a table, {_not(item)}")
        return [
            Table(self.document, (*self.path, key, index), item)
            for index, item in enumerate(value)
        ]

    def _item(self, key: str, index: int, text: str) -> ConfigError:
        where = self.document.where((*self.path, key, index))
        return ConfigError(f"{where}: {text}")


def _not(value: object) -> str:
    return f"not {describe_value(value)}"


def describe_value(value: object) -> str:
    """What a value is, without the value: it may be a secret."""
    if isinstance(value, str):
        return "a text" if value.strip() else "an empty one"
    kinds = {bool: "true or false", int: "a number", float: "a number"}
    kinds |= {list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or time")
