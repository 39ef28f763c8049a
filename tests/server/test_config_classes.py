"""``[[migrations]]``: what is read, and which histories make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.config import load_project
from server.config_migrations import Migration, Rename, Transfer
from server.config_reader import ConfigError

GOOD = """
[[migrations]]
tag = "v1"
new_classes = ["A"]
new_sqlite_classes = ["B", "C"]

[[migrations]]
tag = "v2"
deleted_classes = ["C"]
[[migrations.renamed_classes]]
from = "A"
to = "D"

[[migrations]]
tag = "v3"
new_classes = ["A"]
transferred_classes = [{ from = "X", from_script = "other", to = "E" }]
"""


def load(directory: Path, text: str) -> tuple[Migration, ...]:
    (directory / "durable.toml").write_text(text)
    return load_project(directory).migrations


def refusal(directory: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(directory, text)
    return str(caught.value)


def test_steps_are_read_in_order_and_what_is_missing_is_empty(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == (
        Migration("v1", new_classes=("A", "B", "C")),
        Migration(
            "v2", deleted_classes=("C",), renamed_classes=(Rename(from_="A", to="D"),)
        ),
        Migration(
            "v3",
            new_classes=("A",),
            transferred_classes=(Transfer(from_="X", from_script="other", to="E"),),
        ),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("new_classes = ['A']", "1: migrations[0].tag: is missing"),
        ("tag = 1", "2: migrations[0].tag: must be a text"),
        ("tag = ''", "2: migrations[0].tag: must be a text"),
        (
            "tag = 'a'\nnew_classes = 'A'",
            "3: migrations[0].new_classes: must be a list of texts, not a text",
        ),
        (
            "tag = 'a'\nnew_classes = [\n1]",
            "4: migrations[0].new_classes[0]: must be a text, not a number",
        ),
        (
            "tag = 'a'\nnew_sqlite_classes = ['A B']",
            "3: migrations[0].new_sqlite_classes[0]: 'A B' is no Python name",
        ),
        (
            "tag = 'a'\ndeleted_classes = {}",
            "3: migrations[0].deleted_classes: must be a list of texts, not a table",
        ),
        (
            "tag = 'a'\nrenamed_classes = ['A']",
            "3: migrations[0].renamed_classes[0]: must be a table, not a text",
        ),
        (
            "tag = 'a'\nrenamed_classes = [{ from = 'A' }]",
            "3: migrations[0].renamed_classes[0].to: is missing",
        ),
        (
            "tag = 'a'\nrenamed_classes = [{ from = 'A', to = 1 }]",
            "3: migrations[0].renamed_classes[0].to: must be a text",
        ),
        (
            "tag = 'a'\nrenamed_classes = [{ to = 'A' }]",
            "3: migrations[0].renamed_classes[0].from: is missing",
        ),
        (
            "tag = 'a'\nrenamed_classes = [{ fro = 'A' }]",
            "3: migrations[0].renamed_classes[0].fro: unknown key; did you mean from?",
        ),
        (
            "tag = 'a'\ntransferred_classes = [{ from = 'A', to = 'A' }]",
            "3: migrations[0].transferred_classes[0].from_script: is missing",
        ),
        (
            "tag = 'a'\ntransferred_classes = [{ from_script = 's', to = 'A' }]",
            "3: migrations[0].transferred_classes[0].from: is missing",
        ),
        (
            "tag = 'a'\ntransferred_classes = [{ from = 'A', from_script = [] }]",
            "3: migrations[0].transferred_classes[0].from_script: must be a text",
        ),
    ],
)
def test_a_bad_step_is_an_error_with_file_line_and_key(
    tmp_path: Path, text: str, said: str
) -> None:
    said_now = refusal(tmp_path, f"[[migrations]]\n{text}")
    assert said_now.startswith(f"durable.toml:{said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[[migrations]]\ntag = 'v3'",
            "19: migrations[3].tag: 'v3' is the tag of an earlier migration",
        ),
        (
            "[[migrations]]\ntag = 'v4'\nnew_sqlite_classes = ['B']",
            "20: migrations[3].new_sqlite_classes: B is there since the migration 'v1'",
        ),
        (
            "[[migrations]]\ntag = 'v4'\ndeleted_classes = ['C']",
            "20: migrations[3].deleted_classes: C is gone since the migration 'v2'",
        ),
        (
            "[[migrations]]\ntag = 'v4'\ndeleted_classes = ['B']\nnew_classes = ['B']",
            "21: migrations[3].new_classes: B is twice in this migration: make two",
        ),
        (
            '[[durable_objects.bindings]]\nname = "X"\nclass_name = "C"',
            "20: durable_objects.bindings[0].class_name: C is gone since the migration",
        ),
    ],
)
def test_a_history_that_contradicts_itself_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    assert refusal(tmp_path, GOOD + text).startswith(f"durable.toml:{said}")


def test_a_class_from_before_the_first_migration_can_be_renamed_and_deleted(
    tmp_path: Path,
) -> None:
    text = (
        "[[migrations]]\ntag = 'a'\ndeleted_classes = ['Old']\n"
        "renamed_classes = [{ from = 'Older', to = 'Newer' }]"
    )
    assert load(tmp_path, text)[0].deleted_classes == ("Old",)
