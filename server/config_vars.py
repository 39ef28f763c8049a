"""Variables for ``env``: ``[vars]``, and in development the file ``.dev.vars``."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from server.config_reader import ConfigError, Table, describe_value

DEV_VARS: Final = ".dev.vars"

_LINE: Final = re.compile(r"(?:export\s+)?([^=\s]+)\s*=\s*(.*)")
# Attributes that ``Env`` has itself.
_TAKEN: Final = frozenset({"namespaces", "services", "cache"})


def name_problem(name: str) -> str | None:
    """Why ``self.env.NAME`` couldn't be a variable; None if it can."""
    if not name.isidentifier():
        return "must be a Python name"
    if name.startswith("__") or name in _TAKEN:
        return "is a name that env has for itself"
    return None


def parse_vars(table: Table) -> Mapping[str, Any]:
    """``[vars]``: texts, numbers, booleans, and tables and lists of these.

    Raises:
        ConfigError: with the key, but not the value.
    """
    for name, value in table.values.items():
        problem = name_problem(name)
        if problem is not None:
            raise table.error(name, problem)
        _check(table, name, value)
    return table.values


def _check(table: Table, key: str, value: object) -> None:
    if isinstance(value, dict):
        inner = Table(table.document, (*table.path, key), value)
        for name, item in value.items():
            _check(inner, name, item)
    elif isinstance(value, list):
        for item in value:
            _check(table, key, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise table.error(key, "must be a finite number")
    elif not isinstance(value, (str, int, float)):
        raise table.error(key, f"{describe_value(value)} must stand in quotes")


def read_dev_vars(directory: Path, taken: Collection[str] = ()) -> dict[str, str]:
    """``.dev.vars``: lines KEY=value, in quotes or not; none if there is no file.

    ``taken`` are names that env has already.

    Raises:
        ConfigError: with file and line, but not the value: it is a secret.
    """
    try:
        text = (directory / DEV_VARS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"{DEV_VARS}: can't be read: {reason}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, value = _pair(f"{DEV_VARS}:{number}", line.strip())
            if name in found:
                raise ConfigError(f"{DEV_VARS}:{number}: {name}: is there twice")
            if name in taken:
                raise ConfigError(
                    f"{DEV_VARS}:{number}: {name}: is the name of a binding too"
                )
            found[name] = value
    return found


def _pair(where: str, line: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ConfigError(f"{where}: a line must be KEY=value")
    name, value = match[1], match[2]
    problem = name_problem(name)
    if problem is not None:
        raise ConfigError(f"{where}: {name}: {problem}")
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        rest = value[end + 1 :].strip()
        if end < 0 or (rest and not rest.startswith("#")):
            raise ConfigError(f"{where}: {name}: the quotes don't close at the end")
        return name, value[1:end]
    return name, re.split(r"\s#", value, maxsplit=1)[0].rstrip()
