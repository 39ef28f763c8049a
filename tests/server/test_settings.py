from __future__ import annotations

from pathlib import Path

import pytest

from server.setting_kinds import MIB
from server.settings import Settings, SettingsError, describe, unknown_settings


def read(*, dev: bool = False, **environ: str) -> Settings:
    return Settings.from_environment(environ, dev=dev)


def test_without_variables_every_setting_has_its_default() -> None:
    assert read() == Settings()
    assert Settings().max_body_bytes == 10 * MIB


def test_dev_has_a_longer_lease_so_that_a_debugger_may_stop_the_process() -> None:
    assert read().lease_seconds == 10
    assert read(dev=True).lease_seconds >= 60
    assert read(dev=True, DURABLE_LEASE_SECONDS="7").lease_seconds == 7


@pytest.mark.parametrize(
    ("text", "size"), [("1000", 1000), ("64KiB", 65536), ("2 mib", 2 * MIB)]
)
def test_a_size_is_a_number_or_has_a_unit(text: str, size: int) -> None:
    assert read(DURABLE_MAX_BODY_BYTES=text).max_body_bytes == size


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("DURABLE_PORT", "http", "a whole number from 0 to 65535"),
        ("DURABLE_PORT", "65536", "a whole number from 0 to 65535"),
        ("DURABLE_READ_CONNECTIONS", "65", "from 1 to 64"),
        ("DURABLE_LEASE_SECONDS", "nan", "seconds, from 2 to 600"),
        ("DURABLE_LEASE_SECONDS", "10s", "seconds, from 2 to 600"),
        ("DURABLE_MAX_BODY_BYTES", "10MB", "KiB, MiB or GiB"),
        ("DURABLE_ROLE", "boss", "one of front, worker, both"),
        ("DURABLE_LINK_ADVERTISE", "worker-1", "host:port"),
        ("DURABLE_LOG_LEVEL", "loud", "one of debug, info"),
        ("DURABLE_HOST", " ", "a text that is not empty"),
        ("DURABLE_DATABASE_URL", "mysql://h/d", "postgresql://"),
        ("DURABLE_DATABASE_URL", "postgresql://h:port/d", "postgresql://"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_variable_and_what_is_allowed(
    name: str, value: str, allowed: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({name: value})
    assert str(caught.value).startswith(name + ": ")
    assert allowed in str(caught.value)


def test_the_error_for_a_database_url_does_not_repeat_its_password() -> None:
    with pytest.raises(SettingsError) as caught:
        read(DURABLE_DATABASE_URL="mysql://me:secret@h/d")
    assert "secret" not in str(caught.value)


def test_freshness_close_to_the_lease_is_refused() -> None:
    with pytest.raises(SettingsError, match="at most a quarter"):
        read(DURABLE_LEASE_SECONDS="2", DURABLE_FRESHNESS_SECONDS="1")


def test_a_link_beyond_loopback_needs_a_secret_of_32_characters() -> None:
    with pytest.raises(SettingsError, match="set DURABLE_LINK_SECRET"):
        read(DURABLE_LINK_HOST="0.0.0.0")
    with pytest.raises(SettingsError, match="at least 32") as caught:
        read(DURABLE_LINK_HOST="0.0.0.0", DURABLE_LINK_SECRET="hush" * 7)
    assert "hush" not in str(caught.value)
    read(DURABLE_LINK_HOST="0.0.0.0", DURABLE_LINK_SECRET="hush" * 8)
    for loopback in ("localhost", "127.0.0.7", "::1"):
        read(DURABLE_LINK_HOST=loopback)


def test_an_admin_port_beyond_loopback_needs_a_token() -> None:
    def beyond(**more: str) -> Settings:
        environ = {"DURABLE_ADMIN_HOST": "0.0.0.0", "DURABLE_ADMIN_PORT": "9090"}
        return Settings.from_environment({**environ, **more})

    with pytest.raises(SettingsError, match="set DURABLE_ADMIN_TOKEN"):
        beyond()
    with pytest.raises(SettingsError, match="at least 32") as caught:
        beyond(DURABLE_ADMIN_TOKEN="hush" * 7)
    assert "hush" not in str(caught.value)
    beyond(DURABLE_ADMIN_TOKEN="hush" * 8)
    read(DURABLE_ADMIN_HOST="0.0.0.0")  # no port: nothing is open


def test_no_repr_of_the_settings_shows_a_secret() -> None:
    secret = "hush" * 8
    settings = read(
        DURABLE_DATABASE_URL=f"postgresql://me:{secret}@h/d",
        DURABLE_SQL_URL=f"postgresql://me:{secret}@h/d",
        DURABLE_LINK_SECRET=secret,
        DURABLE_ADMIN_TOKEN=secret,
        DURABLE_VAR_KEY=secret,
    )
    assert settings.admin_token == secret
    assert "hush" not in repr(settings)


def test_allowed_origins_are_origins() -> None:
    assert read(DURABLE_ALLOWED_ORIGINS="").allowed_origins == ()
    assert read(dev=True).allowed_origins == ("loopback",)
    assert read(DURABLE_ALLOWED_ORIGINS="https://A.example, *").allowed_origins == (
        "https://a.example",
        "*",
    )
    for bad in ("a.example", "https://a.example/", "ftp://a", "https://"):
        with pytest.raises(SettingsError, match="with commas between"):
            read(DURABLE_ALLOWED_ORIGINS=bad)


def test_vars_become_bindings_under_their_own_name() -> None:
    settings = read(DURABLE_VAR_API_KEY="k", DURABLE_VAR_EMPTY="")
    assert dict(settings.vars) == {"API_KEY": "k", "EMPTY": ""}
    with pytest.raises(SettingsError, match="DURABLE_VAR_A-B"):
        Settings.from_environment({"DURABLE_VAR_A-B": "x"})


def test_a_misspelt_setting_is_warned_of_with_the_name_that_was_meant() -> None:
    environ = {"DURABLE_PROT": "1", "DURABLE_PORT": "1", "DURABLE_VAR_X": "", "A": ""}
    assert unknown_settings(environ) == [
        "DURABLE_PROT is no setting of this version; did you mean DURABLE_PORT?"
    ]


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]


def test_the_description_lists_every_setting_with_its_variable() -> None:
    text = describe()
    assert "DURABLE_LEASE_SECONDS  (10.0; 60.0 in `durable dev`)" in text
    assert "DURABLE_VAR_<NAME>" in text
    assert str(Path(".durable")) in text
