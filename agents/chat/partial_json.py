"""The value of JSON that has not come whole: a tool's input while it streams. Pure."""

from __future__ import annotations

from typing import Any

import orjson

_LITERALS = ("true", "false", "null")
# Deeper than orjson reads.
MAX_OPEN_BRACKETS = 1000


def parse_partial(text: str) -> Any:
    """What is there of a value: open strings, lists and objects are closed.

    None if that makes no JSON (yet).
    """
    text = text.strip()
    if not text:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        pass
    for candidate in _repairs(text):
        try:
            return orjson.loads(candidate)
        except ValueError:
            continue
    return None


def _repairs(text: str) -> list[str]:
    """What the text may be when it is closed: the longest reading first."""
    closers: list[str] = []
    in_string = escaped = False
    # Where a member may be cut off: what follows the last comma or opening bracket.
    cut, cut_closers = 0, ""
    for place, char in enumerate(text):
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{[":
            closers.append("}" if char == "{" else "]")
            cut, cut_closers = place + 1, "".join(reversed(closers))
        elif char in "}]" and closers:
            closers.pop()
        elif char == ",":
            cut, cut_closers = place, "".join(reversed(closers))
        if len(closers) > MAX_OPEN_BRACKETS:
            return []
    end = "".join(reversed(closers))
    if in_string:
        return [*_closed_strings(text, end), text[:cut] + cut_closers]
    return [
        text + end,
        _completed_literal(text) + end,
        text.rstrip("+-.eE") + end,
        text[:cut] + cut_closers,
    ]


def _closed_strings(text: str, end: str) -> list[str]:
    """The open string closed; the beginning of an escape, up to 5 long, goes."""
    return [text[: len(text) - cut] + '"' + end for cut in range(6)]


def _completed_literal(text: str) -> str:
    for literal in _LITERALS:
        for length in range(len(literal) - 1, 0, -1):
            if text.endswith(literal[:length]):
                return text + literal[length:]
    return text
