"""Names as they appear in URLs. Pure, and imports nothing of this project.

Invariant: the conversion is the one of the npm client, case by case, because a
front end written in JavaScript computes the URL on its own and must meet ours.
"""

from __future__ import annotations

import re

_UPPER_LETTER = re.compile("[A-Z]")


def kebab_case(name: str) -> str:
    """Convert a class or binding name to its URL segment.

    A name that is all upper case is lower-cased as a whole (`MY_AGENT` becomes
    `my-agent`); otherwise each ASCII capital starts a part of its own (`AIChat`
    becomes `a-i-chat`), so digits are no boundaries and `My_Agent` has two dashes.
    A name that is kebab case already stays as it is.
    """
    if name == name.upper() and name != name.lower():
        return name.lower().replace("_", "-")
    dashed = _UPPER_LETTER.sub(lambda letter: f"-{letter[0].lower()}", name)
    return dashed.removeprefix("-").replace("_", "-").removesuffix("-")
