"""Refuse statements nested so deeply that parsing them would overflow the C stack.

The parser makes one Python object inside another for each level, by recursion in C: a
chain of 25,000 operators ends the process with SIGSEGV (seen with pglast 8.8), and a
process holds many agents. So the depth is counted from the tokens first. Counting
errs upwards: every token that may open a level counts as one, and a comma ends the
levels of its own list element only.
"""

from __future__ import annotations

from pglast.parser import scan

# Texts that are shorter can't be nested deeply enough to matter.
_HARMLESS_LENGTH = 2000
MAX_DEPTH = 1000
MAX_BRACKETS = 200
MAX_JOINS = 500

_OPEN = frozenset({"ASCII_40", "ASCII_91"})
_CLOSE = frozenset({"ASCII_41", "ASCII_93"})
_SEPARATORS = frozenset({"ASCII_44", "ASCII_59"})  # , ;
_FLAT_NAMES = """
IDENT UIDENT SCONST USCONST ICONST FCONST BCONST XCONST PARAM ASCII_46 SQL_COMMENT
C_COMMENT
"""

_FLAT = frozenset(_FLAT_NAMES.split())
# These bind more loosely than a comma of their own bracket level.
_LOOSE = frozenset({"UNION", "INTERSECT", "EXCEPT", "JOIN", "WITH"})


def too_deep(text: str) -> bool:
    """Whether the parser must not see this text."""
    if len(text) <= _HARMLESS_LENGTH:
        return False
    levels = [0]
    depth = loose = 0
    for token in scan(text):
        name = token.name
        if name in _FLAT:
            continue
        if name in _OPEN:
            levels.append(0)
        elif name in _CLOSE:
            depth -= levels.pop()
            levels = levels or [0]
        elif name in _SEPARATORS:
            depth -= levels[-1]
            levels[-1] = 0
        elif name in _LOOSE:
            loose += 1
        else:
            levels[-1] += 1
            depth += 1
        if depth > MAX_DEPTH or len(levels) > MAX_BRACKETS or loose > MAX_JOINS:
            return True
    return False
