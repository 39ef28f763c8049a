"""``[vars]``, ``.dev.vars`` and DURABLE_VAR_*: who wins, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from durable import Env
from server.config import load_project
from server.config_reader import ConfigError
from server.settings import Settings, SettingsError

SECRET = "hunter2"


def env(directory: Path, text: str = "", *, dev: bool = False, **environ: str) -> Env:
    (directory / "durable.toml").write_text(text)
    project = load_project(directory, dev=dev)
    return Env(Settings.from_environment(environ, dev=dev, project=project).vars)


@pytest.mark.parametrize(
    ("toml", "value"),
    [
        ('"x"', "x"),
        ('""', ""),
        ("5", 5),
        ("2.5", 2.5),
        ("true", True),
        ("{ a = { b = [1, 'c'] } }", {"a": {"b": [1, "c"]}}),
    ],
)
def test_texts_numbers_booleans_and_tables_become_attributes_of_env(
    tmp_path: Path, toml: str, value: Any
) -> None:
    found = env(tmp_path, f"[vars]\nNAME = {toml}").NAME
    assert found == value
    assert type(found) is type(value)


def test_a_missing_variable_is_an_error_that_lists_what_is_bound(
    tmp_path: Path,
) -> None:
    with pytest.raises(AttributeError, match="NAME is not bound in env; OTHER is"):
        _ = env(tmp_path, "[vars]\nOTHER = 1").NAME


def test_nobody_can_change_a_variable_for_others(tmp_path: Path) -> None:
    found = env(tmp_path, "[vars]\nLIST = [1]\n[vars.TABLE]\na = { b = 1 }")
    found.LIST.append(2)
    found.TABLE["a"]["b"] = 2
    assert found.LIST == [1]
    assert found.TABLE == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A-B = 1", "2: vars.A-B: must be a Python name"),
        ("cache = 1", "2: vars.cache: is a name that env has for itself"),
        ("__A = 1", "2: vars.__A: is a name that env has for itself"),
        ("A = nan", "2: vars.A: must be a finite number"),
        ("A = 2025-02-23", "2: vars.A: a date or time must stand in quotes"),
        ("A = [\n1979-05-27]", "2: vars.A: a date or time must stand in quotes"),
        ("[vars.A]\nb = 07:32:00", "3: vars.A.b: a date or time must stand in quotes"),
    ],
)
def test_a_bad_variable_is_an_error_with_file_line_and_key(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        env(tmp_path, f"[vars]\n{text}")
    assert str(caught.value) == f"durable.toml:{said}"


def test_dev_vars_are_for_development_only_and_below_the_environment(
    tmp_path: Path,
) -> None:
    (tmp_path / ".dev.vars").write_text("B = secret\nC = secret\n")
    text = "[vars]\nA = 1\nB = 2\nC = 3"
    found = env(tmp_path, text, dev=True, DURABLE_VAR_C="environment")
    assert (found.A, found.B, found.C) == (1, "secret", "environment")
    assert env(tmp_path, text).B == 2


def test_dev_vars_need_no_durable_toml(tmp_path: Path) -> None:
    (tmp_path / ".dev.vars").write_text("B=1")
    assert load_project(tmp_path, dev=True).vars == {"B": "1"}
    assert load_project(tmp_path).vars == {}


def test_dev_vars_are_lines_of_key_and_value(tmp_path: Path) -> None:
    (tmp_path / ".dev.vars").write_text(
        "# a comment\n\n"
        "PLAIN=a b=c\n"
        "  SPACED = d  \n"
        'QUOTED="e # f" # a comment\n'
        "SINGLE=' g '\n"
        "COMMENTED=h#i # a comment\n"
        "export SHELL_STYLE=j\n"
        "EMPTY=\n"
    )
    assert load_project(tmp_path, dev=True).vars == {
        "PLAIN": "a b=c",
        "SPACED": "d",
        "QUOTED": "e # f",
        "SINGLE": " g ",
        "COMMENTED": "h#i",
        "SHELL_STYLE": "j",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (SECRET, "a line must be KEY=value"),
        (f"A-B={SECRET}", "A-B: must be a Python name"),
        (f"cache={SECRET}", "cache: is a name that env has for itself"),
        (f'A="{SECRET}', "A: the quotes don't close at the end"),
        (f'A="{SECRET}" x', "A: the quotes don't close at the end"),
        (f"FIRST={SECRET}", "FIRST: is there twice"),
        (f"BOUND={SECRET}", "BOUND: is the name of a binding too"),
    ],
)
def test_a_bad_line_of_dev_vars_is_an_error_that_keeps_the_secret(
    tmp_path: Path, line: str, said: str
) -> None:
    (tmp_path / ".dev.vars").write_text(f"FIRST=1\n{line}\n")
    text = '[[durable_objects.bindings]]\nname = "BOUND"\nclass_name = "B"'
    with pytest.raises(ConfigError) as caught:
        env(tmp_path, text, dev=True)
    assert str(caught.value) == f".dev.vars:2: {said}"


def test_dev_vars_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / ".dev.vars").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match=r"\.dev\.vars: can't be read"):
        load_project(tmp_path, dev=True)


def test_a_variable_of_the_environment_may_not_hide_a_binding(tmp_path: Path) -> None:
    text = '[[durable_objects.bindings]]\nname = "BOUND"\nclass_name = "B"'
    with pytest.raises(SettingsError, match=r"DURABLE_VAR_BOUND: .* of a binding"):
        env(tmp_path, text, DURABLE_VAR_BOUND="x")
    with pytest.raises(SettingsError, match=r"DURABLE_VAR_cache: .* for itself"):
        env(tmp_path, DURABLE_VAR_cache="x")


def test_values_are_not_in_representations(tmp_path: Path) -> None:
    (tmp_path / ".dev.vars").write_text(f"A={SECRET}")
    project = load_project(tmp_path, dev=True)
    settings = Settings.from_environment({"DURABLE_VAR_B": SECRET}, project=project)
    assert SECRET not in repr(settings)
