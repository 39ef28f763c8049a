"""Each key of durable.toml: a good value, none, and a bad one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.cli_new import new_project
from server.config import LIMITS, OBSERVABILITY, load_project
from server.config_project import Binding, Project
from server.config_reader import ConfigError
from server.settings import MIB, Settings, SettingsError

ROOT = Path(__file__).parents[2]


def load(directory: Path, text: str, file: str = "durable.toml") -> Project:
    (directory / file).write_text(text)
    return load_project(directory)


def refusal(directory: Path, text: str, file: str = "durable.toml") -> str:
    with pytest.raises(ConfigError) as caught:
        load(directory, text, file)
    return str(caught.value)


BINDING = '\n[[durable_objects.bindings]]\nname = "A"\nclass_name = "B"\n'

# What to read from the project, a file, what it gives; and without a file.
GOOD: list[tuple[Callable[[Project], Any], str, Any, Any]] = [
    (lambda p: p.name, 'name = "my-app"', "my-app", None),
    (lambda p: p.main and p.main.value, 'main = "a:fetch"', "a:fetch", None),
    (lambda p: p.bindings, BINDING, (Binding("A", "B"),), ()),
    (
        lambda p: p.bindings,
        f'name = "mine"{BINDING}script_name = "theirs"',
        (Binding("A", "B", "theirs"),),
        (),
    ),
    (
        lambda p: p.bindings,
        f'name = "mine"{BINDING}script_name = "mine"',
        (Binding("A", "B"),),
        (),
    ),
    (
        lambda p: [m.tag for m in p.migrations],
        '[[migrations]]\ntag = "1"\n[[migrations]]\ntag = "2"',
        ["1", "2"],
        [],
    ),
    (lambda p: dict(p.vars), "[vars]\nA = 1", {"A": 1}, {}),
    (lambda p: p.placement, '[placement]\nlabels = ["eu"]', ("eu",), ()),
    (
        lambda p: {k: v.value for k, v in p.settings.items()},
        "[limits]\nmax_waiting = 7",
        {"max_waiting": 7},
        {},
    ),
    (
        lambda p: {k: v.value for k, v in p.settings.items()},
        '[observability]\nlog_level = "debug"\nshow_errors = true',
        {"log_level": "debug", "show_errors": True},
        {},
    ),
]


@pytest.mark.parametrize(("read", "text", "value", "default"), GOOD)
def test_a_good_value_is_taken_and_a_missing_one_has_a_default(
    tmp_path: Path, read: Callable[[Project], Any], text: str, value: Any, default: Any
) -> None:
    assert read(load_project(tmp_path)) == default
    assert read(load(tmp_path, "# empty")) == default
    assert read(load(tmp_path, text)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nname = 5", "2: name: must be a text that is not empty, not a number"),
        ('name = " "', "1: name: must be a text that is not empty, not an empty one"),
        ('name = "a b"', "1: name: 'a b' is no name for an app"),
        ("\n\nmain = []", "3: main: must be a text"),
        ("durable_objects = 1", "1: durable_objects: must be a table"),
        ("[durable_objects]\nbindings = 1", "2: durable_objects.bindings: must be a"),
        (
            '[durable_objects]\nbindings = [\n"A"]',
            "3: durable_objects.bindings[0]: must be a table",
        ),
        (
            BINDING.replace('"A"', "true"),
            "3: durable_objects.bindings[0].name: must be a text",
        ),
        (
            BINDING.replace('"A"', '"A-B"'),
            "3: durable_objects.bindings[0].name: 'A-B' must be a Python name",
        ),
        (
            BINDING.replace('"A"', '"cache"'),
            "3: durable_objects.bindings[0].name: 'cache' is a name that env has",
        ),
        (
            BINDING.replace('name = "A"\n', "", 1),
            "2: durable_objects.bindings[0].name: is missing",
        ),
        (
            BINDING.replace('class_name = "B"', ""),
            "2: durable_objects.bindings[0].class_name: is missing",
        ),
        (
            BINDING.replace('"B"', '"m.B"'),
            "4: durable_objects.bindings[0].class_name: 'm.B' is no Python name",
        ),
        (
            BINDING + "script_name = 1",
            "5: durable_objects.bindings[0].script_name: must be a text",
        ),
        (BINDING + BINDING, "7: durable_objects.bindings[1].name: A is bound twice"),
        ("migrations = 1", "1: migrations: must be a list of tables"),
        ("\nvars = 1", "2: vars: must be a table"),
        (BINDING + "[vars]\nA = 1", "6: vars.A: is the name of a binding too"),
        ("limits = 1", "1: limits: must be a table"),
        ("placement = 1", "1: placement: must be a table"),
        ("[placement]\nlabels = 1", "2: placement.labels: must be a list of texts"),
        ("[placement]\nlabels = [\n'a',\n1]", "4: placement.labels[1]: must be a text"),
        (
            "[placement]\nlabels = ['a', 'a']",
            "2: placement.labels[1]: 'a' is in the list twice",
        ),
        ("observability = 1", "1: observability: must be a table"),
        (
            "[observability]\nlog_level = 'loud'",
            "2: observability.log_level: 'loud' is not usable; it must be one of debug",
        ),
        (
            "[observability]\nshow_errors = 'yes'",
            "2: observability.show_errors: 'yes' is not usable; it must be on or off",
        ),
    ],
)
def test_a_bad_value_is_an_error_with_file_line_and_key(
    tmp_path: Path, text: str, said: str
) -> None:
    assert refusal(tmp_path, text).startswith(f"durable.toml:{said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mian = 'a'", "1: mian: unknown key; did you mean main?"),
        ("\n[limit]", "2: limit: unknown key; did you mean limits?"),
        ("[x]", "1: x: unknown key; here may stand durable_objects, limits, main,"),
        (
            "[limits]\n\nmax_waitng = 1",
            "3: limits.max_waitng: unknown key; did you mean max_waiting?",
        ),
        (
            BINDING + 'class = "C"',
            "5: durable_objects.bindings[0].class: unknown key; did you mean",
        ),
        (
            "[durable_objects]\nbinding = []",
            "2: durable_objects.binding: unknown key; did you mean bindings?",
        ),
        ("max_waiting = 1", "1: max_waiting: unknown key; its place is below [limits]"),
        (
            "[limits]\nlog_level = 'info'",
            "2: limits.log_level: unknown key; its place is below [observability]",
        ),
        ("port = 1", "1: port: unknown key; set DURABLE_PORT in the environment"),
        (
            "[limits]\nshards = 1",
            "2: limits.shards: unknown key; set DURABLE_SHARDS in the environment",
        ),
        (
            'compatibility_date = "2025-02-23"',
            "1: compatibility_date: unknown key; it is of Cloudflare's platform",
        ),
        (
            "[observability]\nenabled = true",
            "2: observability.enabled: unknown key; logs can't be switched off",
        ),
        ("[env.staging]", "1: env: unknown key; for another deployment set other"),
        ("[placement]\nlabel = 'a'", "2: placement.label: unknown key; did you mean"),
        ("[[migrations]]\ntags = 'a'", "2: migrations[0].tags: unknown key; did you"),
    ],
)
def test_an_unknown_key_is_an_error_that_says_what_was_meant(
    tmp_path: Path, text: str, said: str
) -> None:
    assert refusal(tmp_path, text).startswith(f"durable.toml:{said}")


@pytest.mark.parametrize("key", LIMITS)
def test_each_limit_sets_the_setting_of_its_name_and_refuses_what_that_refuses(
    tmp_path: Path, key: str
) -> None:
    default = getattr(Settings(), key)
    project = load(tmp_path, f"[limits]\n{key} = {default}")
    assert project.settings[key].value == default
    assert type(project.settings[key].value) is type(default)
    assert load(tmp_path, "[limits]").settings == {}
    for bad in ("-1", "'x'", "true", "[1]", "nan"):
        said = refusal(tmp_path, f"[limits]\n{key} = {bad}")
        assert said.startswith(f"durable.toml:2: limits.{key}: ")
        assert "it must be" in said


def test_limits_and_observability_name_real_settings() -> None:
    assert {"max_waiting", "idle_seconds", "max_body_bytes"} <= set(LIMITS)
    assert not {"port", "shards", "database_url", "show_errors"} & set(LIMITS)
    assert all(hasattr(Settings(), key) for key in (*LIMITS, *OBSERVABILITY))


def test_a_size_may_have_a_unit_but_a_number_stands_without_quotes(
    tmp_path: Path,
) -> None:
    project = load(tmp_path, '[limits]\nmax_body_bytes = "2 MiB"')
    assert project.settings["max_body_bytes"].value == 2 * MIB
    said = refusal(tmp_path, '[limits]\nmax_waiting = "5"')
    assert "'5' is not usable; it must be a whole number" in said


# --- where the configuration stands ----------------------------------------------


def test_pyproject_may_hold_it_and_errors_name_that_file(tmp_path: Path) -> None:
    text = "[project]\nname = 'other'\n[tool.durable]\nname = 'mine'\n"
    project = load(tmp_path, text, "pyproject.toml")
    assert project.name == "mine"
    text += "[tool.durable.limits]\nmax_waiting = 'x'"
    said = refusal(tmp_path, text, "pyproject.toml")
    assert said.startswith("pyproject.toml:6: tool.durable.limits.max_waiting: 'x'")


def test_a_pyproject_without_our_table_is_none_of_our_business(tmp_path: Path) -> None:
    assert load(tmp_path, "[tool.ruff]", "pyproject.toml") == Project()
    assert load(tmp_path, "name = 'a'").name == "a"


def test_two_configurations_are_refused(tmp_path: Path) -> None:
    load(tmp_path, "name = 'a'")
    assert refusal(tmp_path, "\n[tool.durable]", "pyproject.toml") == (
        "pyproject.toml:2: tool.durable: there is a durable.toml too; keep one of them"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"name = 'a'\nmain", "durable.toml:2: not TOML: "),
        (b"[limits]\nmax_waiting = \n", "durable.toml:2: not TOML: "),
        (b"name = 'a'\nmain = 'b'\nname = 'c'", "durable.toml:3: not TOML: "),
        (b"\n\nname = '\xff'", "durable.toml:3: the file must be UTF-8"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(
    tmp_path: Path, text: bytes, said: str
) -> None:
    (tmp_path / "durable.toml").write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path)
    assert str(caught.value).startswith(said)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "durable.toml").mkdir()
    with pytest.raises(ConfigError, match=r"durable\.toml: can't be read: "):
        load_project(tmp_path)


# --- precedence ------------------------------------------------------------------


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(
    tmp_path: Path,
) -> None:
    project = load(tmp_path, "[limits]\nlease_seconds = 20\nread_connections = 2")

    def read(*, dev: bool = False, **environ: str) -> Settings:
        return Settings.from_environment(environ, dev=dev, project=project)

    assert read().lease_seconds == 20
    assert read(dev=True).lease_seconds == 20
    assert read(DURABLE_LEASE_SECONDS="30").lease_seconds == 30
    assert read(DURABLE_LEASE_SECONDS="30").read_connections == 2
    assert read().max_waiting == Settings().max_waiting


def test_values_that_do_not_fit_together_name_where_each_is_from(
    tmp_path: Path,
) -> None:
    project = load(tmp_path, "[limits]\nfreshness_seconds = 1\nlease_seconds = 3")
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({}, project=project)
    assert str(caught.value) == (
        "durable.toml:2: limits.freshness_seconds must be at most a quarter of "
        "durable.toml:3: limits.lease_seconds (3)"
    )
    with pytest.raises(SettingsError, match="of DURABLE_LEASE_SECONDS "):
        Settings.from_environment({"DURABLE_LEASE_SECONDS": "2"}, project=project)


# --- what we ship ----------------------------------------------------------------


def test_the_example_of_the_documentation_is_accepted(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "durable-toml.md").read_text()
    project = load(tmp_path, text.split("```toml\n")[1].split("```")[0])
    assert project.bindings == (Binding("ROOMS", "ChatRoom"),)
    assert project.migrations[0].new_classes == ("ChatRoom",)
    assert project.vars["LIMITS"] == {"per_room": 50}
    assert project.settings["max_body_bytes"].value == 2 * MIB


def test_a_new_project_has_a_configuration_that_is_accepted(tmp_path: Path) -> None:
    directory = new_project("hello-1", tmp_path)
    project = load_project(directory, dev=True)
    assert project.name == "hello-1"
    assert project.main is not None
    assert (directory / project.main.value).is_file()
    assert ".dev.vars" in (directory / ".gitignore").read_text().split()
