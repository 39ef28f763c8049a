"""durable.toml as a whole: unknown keys, places, precedence, what we ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.cli_new import new_project
from server.config import LIMITS, OBSERVABILITY, load_project
from server.config_project import Binding, Project
from server.config_reader import ConfigError
from server.setting_kinds import MIB
from server.settings import Settings, SettingsError

ROOT = Path(__file__).parents[2]


def load(directory: Path, text: str, file: str = "durable.toml") -> Project:
    (directory / file).write_text(text)
    return load_project(directory)


def refusal(directory: Path, text: str, file: str = "durable.toml") -> str:
    with pytest.raises(ConfigError) as caught:
        load(directory, text, file)
    return str(caught.value)


BINDING = '\n[[durable_objects.bindings]]\nname = "A"\nclass_name = "B"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mian = 'a'", "1: mian: unknown key; did you mean main?"),
        ("\n[limit]", "2: limit: unknown key; did you mean limits?"),
        ("[x]", "1: x: unknown key; here may stand ai, durable_objects, limits, main,"),
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
        ("weight = 2", "1: weight: unknown key; its place is below [placement]"),
        ("[placement]\nlabel = 'a'", "2: placement.label: unknown key; did you mean"),
        ("[[migrations]]\ntags = 'a'", "2: migrations[0].tags: unknown key; did you"),
    ],
)
def test_an_unknown_key_is_an_error_that_says_what_was_meant(
    tmp_path: Path, text: str, said: str
) -> None:
    assert refusal(tmp_path, text).startswith(f"durable.toml:{said}")


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
