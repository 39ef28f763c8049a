"""``[ai]``: providers, models and gateways, as tables → data. No key stands in it."""

from __future__ import annotations

import math
from typing import Any, Final, cast, get_args

from yarl import URL

from agents.ai import options
from agents.ai.settings import (
    DEFAULT_GATEWAY,
    AISettings,
    Backoff,
    Gateway,
    Model,
    Provider,
    RateLimit,
    Technique,
)
from server.config_reader import Table, describe_value
from server.config_vars import name_problem

_KEYS: Final = ("binding", "default", "providers", "models", "gateways")
_PROVIDER: Final = ("name", "base_url", "base_url_var", "api_key_var")
_MODEL: Final = ("name", "provider", "model", "input_price", "output_price")
_RATE: Final = ("rate_limit", "rate_interval", "rate_technique")
_GATEWAY: Final = ("id", *options.RANGES, "backoff", "collect_log", *_RATE)
_NO_KEY: Final = (
    "the file has no keys in it: api_key_var names the variable that has it, from "
    "DURABLE_VAR_NAME or .dev.vars"
)
_HINTS: Final = dict.fromkeys(("api_key", "key", "token", "secret"), _NO_KEY)
MAX_RATE: Final = 1_000_000
MAX_RATE_INTERVAL: Final = 24 * 3600


def parse_ai(root: Table) -> AISettings | None:
    """The table; None without one.

    Raises:
        ConfigError: with file, line and key.
    """
    if "ai" not in root.values:
        return None
    table = root.table("ai")
    table.only(_KEYS, _HINTS)
    binding = table.text("binding") or "AI"
    problem = name_problem(binding)
    if problem is not None:
        raise table.error("binding", f"{binding!r} {problem}")
    providers: dict[str, Provider] = {}
    for entry in table.tables("providers"):
        name = _own_name(entry, "name", providers)
        providers[name] = _provider(entry, name, root)
    default = table.text("default")
    if default is not None:
        _of_a_provider(table, "default", default, providers)
    models: dict[str, Model] = {}
    for entry in table.tables("models"):
        name = _own_name(entry, "name", models)
        models[name] = _model(entry, name, providers)
    gateways: dict[str, Gateway] = {}
    for entry in table.tables("gateways"):
        name = _own_name(entry, "id", gateways)
        gateways[name] = _gateway(entry, name)
    return AISettings(binding, default, providers, models, gateways)


def _own_name(table: Table, key: str, taken: dict[str, Any]) -> str:
    name = table.required(key)
    if name in taken:
        raise table.error(key, f"{name!r} is there twice")
    return name


def _provider(table: Table, name: str, root: Table) -> Provider:
    table.only(_PROVIDER, _HINTS)
    if "/" in name:
        raise table.error("name", f"{name!r} has a '/', which ends a provider's name")
    url, url_var = table.text("base_url"), _variable(table, "base_url_var")
    if url is None and url_var is None:
        raise table.error("base_url", "is missing")
    if url is not None:
        _check_url(table, url)
    key_var = _variable(table, "api_key_var")
    if key_var is not None and key_var in root.table("vars").values:
        raise root.table("vars").error(
            key_var, f"is the key of the provider {name!r}: {_NO_KEY}"
        )
    return Provider(name, url, url_var, key_var)


def _check_url(table: Table, text: str) -> None:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise table.error(
            "base_url", "must be a URL as https://api.openai.com/v1, and isn't"
        )
    if url.user is not None or url.password is not None or url.query_string:
        raise table.error("base_url", f"must not have a user or a query: {_NO_KEY}")


def _variable(table: Table, key: str) -> str | None:
    """A variable's name. What isn't one may be a key by mistake, and isn't repeated."""
    name = table.text(key)
    if name is not None and name_problem(name) is not None:
        raise table.error(
            key, f"must be the name of a variable, as OPENAI_API_KEY; {_NO_KEY}"
        )
    return name


def _of_a_provider(
    table: Table, key: str, name: str, providers: dict[str, Provider]
) -> None:
    if name not in providers:
        known = ", ".join(providers) or "none"
        raise table.error(key, f"{name!r} is no provider; [[ai.providers]] has {known}")


def _model(table: Table, name: str, providers: dict[str, Provider]) -> Model:
    table.only(_MODEL, _HINTS)
    provider = table.required("provider")
    _of_a_provider(table, "provider", provider, providers)
    return Model(
        name=name,
        provider=provider,
        model=table.text("model") or name,
        input_price=_price(table, "input_price"),
        output_price=_price(table, "output_price"),
    )


def _price(table: Table, key: str) -> float | None:
    return _number(table, key, 0, 1_000_000) if key in table.values else None


def _gateway(table: Table, id: str) -> Gateway:
    table.only(_GATEWAY, _HINTS)
    found: dict[str, Any] = {}
    for key in options.RANGES:
        if key in table.values:
            try:
                options.check(key, table.values[key])
            except ValueError as error:
                raise table.error(key, str(error).removeprefix(f"{key} ")) from None
            found[key] = table.values[key]
    standard = Gateway(DEFAULT_GATEWAY)
    backoff = table.choice("backoff", get_args(Backoff), standard.backoff)
    return Gateway(
        id=id,
        backoff=cast("Backoff", backoff),
        collect_log=table.flag("collect_log", standard.collect_log),
        rate=_rate(table),
        **found,
    )


def _rate(table: Table) -> RateLimit | None:
    if "rate_limit" not in table.values:
        for key in _RATE:
            if key in table.values:
                raise table.error(key, "has no meaning without rate_limit")
        return None
    technique = table.choice("rate_technique", get_args(Technique), "fixed")
    interval = 60.0
    if "rate_interval" in table.values:
        interval = _number(table, "rate_interval", 1, MAX_RATE_INTERVAL)
    limit = int(_number(table, "rate_limit", 1, MAX_RATE))
    return RateLimit(limit, interval, cast("Technique", technique))


def _number(table: Table, key: str, low: float, high: float) -> float:
    value = table.values[key]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        shown = value if is_number else describe_value(value)
        raise table.error(
            key, f"must be a number from {low:,} to {high:,}, not {shown}"
        )
    return float(value)
