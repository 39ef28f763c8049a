"""Which rules there are, and which test proves which: read from the files' text.

Nothing is run or imported for it, so the list is whole also where Node is missing.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from tests.support.marked import Proof, python_proofs
from tests.wire.process import NPM

HERE = Path(__file__).parent
DRIVERS = ("client", "reconnect", "react", "chat")
_CHECK = re.compile(r'^check\("([^"\n]+)", (\[[^\]\n]*\]), async', re.MULTILINE)


def statements() -> dict[str, str]:
    """Return every rule in scope: id and statement."""
    tables = tomllib.loads((HERE / "rules.toml").read_text())
    tables.pop("omitted")
    return {
        f"{letter}.{name}": text
        for letter, table in tables.items()
        for name, text in table.items()
    }


def npm_checks(driver: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return name and rules of each check that a Node driver declares."""
    text = (NPM / f"{driver}.mjs").read_text()
    found = [(name, tuple(json.loads(ids))) for name, ids in _CHECK.findall(text)]
    if len(found) != len(re.findall(r"^check\(", text, re.MULTILINE)):
        raise ValueError(f"{driver}.mjs declares a check in another form")
    return found


def npm_id(driver: str, name: str) -> str:
    """Return the pytest parameter id of a check."""
    return f"{driver}: {name}"


def proofs() -> list[Proof]:
    """Return every test of the suite with the rules that it names."""
    found = [
        Proof(f"tests/wire/test_npm.py::test_npm_client[{npm_id(driver, name)}]", ids)
        for driver in DRIVERS
        for name, ids in npm_checks(driver)
    ]
    return found + [proof for proof in python_proofs(HERE) if proof.rules]
