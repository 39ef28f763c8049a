"""The documents tell the truth where a program can check it."""

from __future__ import annotations

import ast
import dataclasses
import re
import textwrap
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from durable.domain import alarms
from durable.objects import alarm_run
from durable.store.tables import metadata
from durable.worker import alarm_loop
from server.settings import PREFIX, VAR_PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
ROOT_PAGES = sorted(ROOT.glob("*.md"))
PAGES = [*ROOT_PAGES, *DOCS, ROOT / "examples" / "README.md"]
PICTURES = sorted((ROOT / "docs").glob("*.svg"))

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
# A path in this repository: its first part is one of our folders.
OUR_PATH = re.compile(
    r"(?:server|agents|durable|migrations|tests|docs|examples)/[\w./-]*"
)
NPM = {"agents/client", "agents/react"}  # modules of the npm package
SETTING_ROW = re.compile(r"^\| `(DURABLE_\w+)` \| ([^|]*) \|", re.MULTILINE)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its code blocks: brackets in code are no links."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in HEADING.findall(prose(page))
    }


def python_blocks() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        fences = FENCE.findall(page.read_text(encoding="utf-8"))
        blocks = [code for _, language, code in fences if language == "python"]
        found += [(f"{named(page)}-{i}", code) for i, code in enumerate(blocks)]
    return found


BLOCKS = python_blocks()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        where, _, anchor = link.partition("#")
        target = (page.parent / where).resolve() if where else page
        assert target.exists(), f"{named(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{named(page)}: {link}"


def test_every_page_of_the_docs_is_in_their_index() -> None:
    linked = set(LINK.findall((ROOT / "docs" / "index.md").read_text()))
    assert {page.name for page in DOCS} - linked == {"index.md"}


@pytest.mark.parametrize(("name", "code"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_python_in_documents_compiles(name: str, code: str) -> None:
    # Top-level await and t-strings (Python 3.14 has them) are shown in places.
    shown = re.sub(r"(?<![\w\"'])t\"", 'f"', textwrap.dedent(code))
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compile(shown, name, "exec", flags=flags, dont_inherit=True)


def test_there_is_python_in_the_readme() -> None:
    assert any(name.startswith("README.md") for name, _ in BLOCKS)


def settings() -> dict[str, dataclasses.Field[object]]:
    fields = dataclasses.fields(Settings)
    return {PREFIX + f.name.upper(): f for f in fields if "parse" in f.metadata}


def test_every_setting_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"DURABLE_[A-Z_]*[A-Z]", text))
    example = {name for name in documented if name.startswith(VAR_PREFIX)}
    assert documented - example - {VAR_PREFIX.rstrip("_")} == set(settings())
    assert f"{VAR_PREFIX}<NAME>" in text


def test_documented_defaults_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = dict(SETTING_ROW.findall(text))
    assert set(rows) == set(settings())
    for name, field in settings().items():
        default, dev = field.default, field.metadata["dev"]
        first, _, second = rows[name].replace("`", "").partition(";")
        assert told(first) == (None if default == () else default), name
        dev = ", ".join(dev) if isinstance(dev, tuple) else dev
        assert (told(second.split(" in ")[0]) if second else None) == dev, name


def test_every_table_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "storage.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(durable\.\w+)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(metadata.tables)


def test_documented_limits_of_alarms_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    table = text.partition("## Alarms\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| ")]
    limits = {what.strip(): limit.strip() for what, limit in rows}
    ahead = alarm_loop.AHEAD_SECONDS
    tries = limits["retries of a run that raises"]
    assert tries.startswith(f"{alarms.MAX_RETRIES}, after {alarms.BASE_SECONDS:g} s")
    assert limits["a run of `alarm`"] == f"{alarm_run.RUN_SECONDS / 60:g} minutes"
    running = limits["alarms that run at a time, per node"]
    assert running == str(alarm_loop.MAX_RUNNING)
    assert limits["alarms begun by one statement"] == str(alarm_loop.MAX_BATCH)
    reads = limits["how far ahead a node reads"]
    assert reads == f"{ahead:g} s, every {ahead / 2:g} s"
    window = limits["alarms in one read"]
    assert window == f"{alarm_loop.MAX_WINDOW:,}, earliest first"


def told(text: str) -> object:
    """A default as the table tells it."""
    text = text.strip()
    words = {"unset": None, "on": True, "off": False}
    if text in words:
        return words[text]
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)( MiB)?", text):
        number = float(match[1]) * (1024**2 if match[2] else 1)
        return int(number) if number.is_integer() else number
    return Path(text) if text.startswith(".") and text.count(".") == 1 else text


def test_settings_named_anywhere_exist() -> None:
    known = set(settings())
    for page in PAGES:
        for name in re.findall(r"DURABLE_[A-Z_]*[A-Z]", page.read_text()):
            # The load generator's place is the benchmark's own variable.
            if not name.startswith(("DURABLE_VAR", "DURABLE_LOAD_DIR")):
                assert name in known, f"{named(page)}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_paths_named_in_the_text_exist(page: Path) -> None:
    paths = {code for code in CODE.findall(prose(page)) if OUR_PATH.fullmatch(code)}
    for path in paths - NPM:
        assert (ROOT / path).exists(), f"{named(page)}: {path}"


def test_the_architecture_names_modules() -> None:
    picture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in re.findall(OUR_PATH, picture):
        assert (ROOT / path.rstrip(".")).exists(), path
    text = prose(ROOT / "ARCHITECTURE.md")
    assert sum(code.endswith(".py") for code in CODE.findall(text)) > 30


@pytest.mark.parametrize("picture", PICTURES, ids=named)
def test_pictures_are_svg_that_github_shows(picture: Path) -> None:
    root = ET.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox")
    # GitHub's sanitiser and <img> allow neither scripts nor what is elsewhere.
    text = picture.read_text(encoding="utf-8")
    assert not re.search(r"<script|<foreignObject|href=|url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text
