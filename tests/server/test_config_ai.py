"""``[ai]``: each key, good and bad; no key of a provider stands in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.ai.settings import AISettings, Gateway, Model, Provider, RateLimit
from durable import DurableObject
from server.config import load_project
from server.config_reader import ConfigError
from server.runtime import Runtime
from server.settings import Settings, SettingsError

WHOLE = """
[ai]
binding = "MODELS"
default = "openai"

[[ai.providers]]
name = "openai"
base_url = "https://api.openai.com/v1"
base_url_var = "OPENAI_URL"
api_key_var = "OPENAI_API_KEY"

[[ai.providers]]
name = "local"
base_url = "http://127.0.0.1:11434/v1"

[[ai.models]]
name = "@cf/meta/llama"
provider = "local"
model = "llama3.2"
input_price = 1
output_price = 2.5

[[ai.models]]
name = "gpt"
provider = "openai"

[[ai.gateways]]
id = "main"
cache_ttl = 3600
max_attempts = 3
retry_delay_ms = 100
backoff = "linear"
request_timeout_ms = 10_000
collect_log = false
rate_limit = 50
rate_interval = 10
rate_technique = "sliding"
"""


def read(directory: Path, text: str) -> AISettings | None:
    (directory / "durable.toml").write_text(text)
    return load_project(directory).ai


def test_the_whole_table(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert found == AISettings(
        binding="MODELS",
        default="openai",
        providers={
            "openai": Provider(
                "openai", "https://api.openai.com/v1", "OPENAI_URL", "OPENAI_API_KEY"
            ),
            "local": Provider("local", "http://127.0.0.1:11434/v1"),
        },
        models={
            "@cf/meta/llama": Model("@cf/meta/llama", "local", "llama3.2", 1, 2.5),
            "gpt": Model("gpt", "openai", "gpt"),
        },
        gateways={
            "main": Gateway(
                id="main",
                cache_ttl=3600,
                max_attempts=3,
                retry_delay_ms=100,
                backoff="linear",
                request_timeout_ms=10_000,
                collect_log=False,
                rate=RateLimit(50, 10, "sliding"),
            )
        },
    )


def test_without_it_there_is_none_and_an_empty_one_has_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "") is None
    found = read(tmp_path, "[ai]")
    assert found == AISettings()
    assert found.gateway("default") == Gateway("default")


def test_a_models_name_finds_its_provider(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert found is not None
    for name, provider, model in (
        ("@cf/meta/llama", "local", "llama3.2"),
        ("local/qwen3:4b", "local", "qwen3:4b"),
        ("openai/gpt-x", "openai", "gpt-x"),
        ("meta/other", "openai", "meta/other"),
    ):
        route = found.model(name)
        assert (route.provider, route.model) == (provider, model), name


PROVIDER = '[[ai.providers]]\nname = "p"\nbase_url = "http://a/v1"\n'
GATEWAY = '[[ai.gateways]]\nid = "g"\n'
OF_P, OF_M, OF_G = "ai.providers[0]", "ai.models[0]", "ai.gateways[0]"
BINDING = '[[durable_objects.bindings]]\nname = "B"\nclass_name = "C"'
MODEL = f'{PROVIDER}[[ai.models]]\nname = "m"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nai = 1", "2: ai: must be a table"),
        ("[ai]\nmodel = 1", "2: ai.model: unknown key; did you mean models?"),
        ('[ai]\nbinding = "a-b"', "2: ai.binding: 'a-b' must be a Python name"),
        ('[ai]\ndefault = "x"', "2: ai.default: 'x' is no provider"),
        ('[[ai.providers]]\nname = "p"', f"1: {OF_P}.base_url: is missing"),
        (f"{PROVIDER}{PROVIDER}", "5: ai.providers[1].name: 'p' is there twice"),
        (PROVIDER.replace('"p"', '"p/q"'), f"2: {OF_P}.name: 'p/q' has a '/'"),
        (PROVIDER.replace("http:", "ftp:"), f"3: {OF_P}.base_url: must be a URL as"),
        (PROVIDER.replace("a/v1", "u:w@a"), f"3: {OF_P}.base_url: must not have a u"),
        (PROVIDER.replace("v1", "v1?k=w"), f"3: {OF_P}.base_url: must not have a u"),
        (f'{PROVIDER}api_key = "w"', f"4: {OF_P}.api_key: unknown key; the file has"),
        (f'{PROVIDER}api_key_var = "sk-w"', f"4: {OF_P}.api_key_var: must be the name"),
        (f'{PROVIDER}base_url_var = "a b"', f"4: {OF_P}.base_url_var: must be the na"),
        (
            f'{PROVIDER}api_key_var = "K"\n[vars]\nK = "w"',
            "6: vars.K: is the key of the provider 'p': the file has no keys",
        ),
        (MODEL, f"4: {OF_M}.provider: is missing"),
        (f'{MODEL}provider = "q"', f"6: {OF_M}.provider: 'q' is no provider"),
        (
            f'{MODEL}provider = "p"\ninput_price = -1',
            f"7: {OF_M}.input_price: must be a number from 0 to 1,000,000, not -1",
        ),
        (f"{GATEWAY}max_attempts = 6", f"3: {OF_G}.max_attempts: must be a whole num"),
        (f"{GATEWAY}cache_ttl = true", f"3: {OF_G}.cache_ttl: must be a number from"),
        (f'{GATEWAY}backoff = "x"', f"3: {OF_G}.backoff: must be one of constant, li"),
        (f"{GATEWAY}collect_log = 1", f"3: {OF_G}.collect_log: must be true or false"),
        (f"{GATEWAY}rate_interval = 1", f"3: {OF_G}.rate_interval: has no meaning w"),
        (f"{GATEWAY}rate_limit = 1_000_001", f"3: {OF_G}.rate_limit: must be a numbe"),
        (f"{GATEWAY}rate_limit = 1\nrate_interval = 0", f"4: {OF_G}.rate_interval: m"),
        ("[ai]\n[vars]\nAI = 1", "3: vars.AI: is the name of [ai]'s binding too"),
        (
            f'[ai]\nbinding = "B"\n{BINDING}',
            "2: ai.binding: B is the name of a class's binding too",
        ),
    ],
)
def test_a_bad_one_is_told_with_its_place_and_no_secret(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"durable.toml:{said}")
    assert "w'" not in str(caught.value)
    assert "sk-w" not in str(caught.value)


def test_a_variable_and_a_class_can_not_have_its_names(tmp_path: Path) -> None:
    (tmp_path / "durable.toml").write_text("[ai]")
    project = load_project(tmp_path)
    with pytest.raises(
        SettingsError, match=r"DURABLE_VAR_AI: .* is the name of a bind"
    ):
        Settings.from_environment({"DURABLE_VAR_AI": "x"}, project=project)
    (tmp_path / ".dev.vars").write_text("AI=x")
    with pytest.raises(ConfigError, match=r"\.dev\.vars:1: AI: is the name of a bind"):
        load_project(tmp_path, dev=True)
    own = type("AIGateway", (DurableObject,), {})
    with pytest.raises(ConfigError, match="has a class AIGateway of its own"):
        Runtime(Settings(project=project), [own])
