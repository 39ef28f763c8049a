"""The Python in docs/ is Python that runs, and its links lead somewhere."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (
    "agents",
    "state",
    "schedules",
    "websockets",
    "http",
    "calling-agents",
    "frameworks",
)
BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([\w-]+\.md)?(?:#([\w-]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def blocks() -> list[tuple[str, str]]:
    """Page and number, and the code, of every block."""
    found = []
    for page in PAGES:
        text = (DOCS / f"{page}.md").read_text()
        for number, (indent, code) in enumerate(BLOCK.findall(text)):
            lines = [line.removeprefix(indent) for line in code.splitlines()]
            found.append((f"{page}-{number}", "\n".join(lines)))
    return found


def anchors(page: str) -> set[str]:
    headings = HEADING.findall((DOCS / page).read_text())
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize(("name", "code"), blocks(), ids=[b[0] for b in blocks()])
def test_snippet_runs(name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compiled = compile(code, name, "exec", flags=flags, dont_inherit=True)
    if not code.startswith(("from ", "import ")):
        return  # a piece of something: it has to be Python, and that is all
    app = ModuleType("app")
    app.Counter = type("Counter", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "app", app)
    module = ModuleType(f"docs_{name}".replace("-", "_"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compiled, module.__dict__)  # noqa: S102 - our own documentation


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for other, anchor in LINK.findall((DOCS / f"{page}.md").read_text()):
        target = other or f"{page}.md"
        assert (DOCS / target).is_file(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_examples_named_in_the_text_exist(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    examples = text.partition("## Examples")[2]
    names = re.findall(r"`(?:examples/\w+/)?(\w+\.(?:py|mjs|jsx))`", examples)
    assert names
    for name in names:
        assert list((DOCS.parent / "examples").glob(f"*/{name}")), name
