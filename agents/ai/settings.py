"""What ``[ai]`` of durable.toml says, as data; which provider has a model."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from agents.ai.errors import AIError

DEFAULT_GATEWAY: Final = "default"
DEFAULT_TIMEOUT_MS: Final = 600_000
"""Reasoning models think for minutes."""
MAX_ATTEMPTS: Final = 5
MAX_RETRY_DELAY_MS: Final = 60_000
MAX_CACHE_TTL: Final = 30 * 24 * 3600

Backoff = Literal["constant", "linear", "exponential"]
Technique = Literal["fixed", "sliding"]


@dataclass(frozen=True, slots=True)
class Provider:
    """A server that speaks OpenAI's API; its key is a variable's, and never here."""

    name: str
    base_url: str | None = None
    base_url_var: str | None = None
    api_key_var: str | None = None

    def address(self, variables: Mapping[str, Any]) -> str:
        """The base URL.

        Raises:
            AIError: only a variable has it, which isn't set.
        """
        named = self.base_url_var and variables.get(self.base_url_var)
        url = str(named) if named else self.base_url
        if url is None:
            raise AIError(
                f"the provider '{self.name}' has no address: set "
                f"DURABLE_VAR_{self.base_url_var}",
                provider=self.name,
            )
        return url.rstrip("/")

    def key(self, variables: Mapping[str, Any]) -> str | None:
        """The API key; None if the provider takes none.

        Raises:
            AIError: the variable isn't set.
        """
        if self.api_key_var is None:
            return None
        key = variables.get(self.api_key_var)
        if not key:
            raise AIError(
                f"the provider '{self.name}' has no key: set "
                f"DURABLE_VAR_{self.api_key_var}, or {self.api_key_var} in .dev.vars",
                provider=self.name,
            )
        return str(key).strip()  # one from a file may end in a newline


@dataclass(frozen=True, slots=True)
class Model:
    """Our name for a provider's model; prices are US dollars per million tokens."""

    name: str
    provider: str
    model: str
    input_price: float | None = None
    output_price: float | None = None

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """What an answer costs, in dollars; None without prices."""
        if self.input_price is None and self.output_price is None:
            return None
        spent = tokens_in * (self.input_price or 0.0)
        spent += tokens_out * (self.output_price or 0.0)
        return spent / 1e6


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many requests in so many seconds."""

    limit: int
    interval: float
    technique: Technique = "fixed"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The defaults of one gateway; a call may say otherwise, but for the rate limit."""

    id: str
    cache_ttl: float = 0.0
    """Seconds; 0: nothing is cached."""
    max_attempts: int = 1
    retry_delay_ms: float = 500.0
    backoff: Backoff = "exponential"
    request_timeout_ms: float = DEFAULT_TIMEOUT_MS
    collect_log: bool = True
    rate: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class AISettings:
    """The whole of ``[ai]``."""

    binding: str = "AI"
    default: str | None = None
    providers: Mapping[str, Provider] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    gateways: Mapping[str, Gateway] = field(default_factory=dict)

    def model(self, name: str) -> Model:
        """The model of a name: of the table, else PROVIDER/MODEL, else the default's.

        Raises:
            AIError: no provider is known for it.
        """
        if name in self.models:
            return self.models[name]
        provider, slash, rest = name.partition("/")
        if slash and provider in self.providers:
            return Model(name, provider, rest)
        if self.default is not None:
            return Model(name, self.default, name)
        raise AIError(
            f"no provider is known for the model '{name}'"
            f"{_near(name, self.models)}: name it PROVIDER/MODEL (providers: "
            f"{', '.join(self.providers) or 'none'}), add it to [[ai.models]] of "
            "durable.toml, or set ai.default"
        )

    def gateway(self, id: str) -> Gateway:
        """A gateway of the file; the one called "default" is always there.

        Raises:
            AIError: there is no such gateway.
        """
        if id in self.gateways:
            return self.gateways[id]
        if id == DEFAULT_GATEWAY:
            return Gateway(id)
        known = ", ".join({DEFAULT_GATEWAY: 0, **self.gateways})
        raise AIError(
            f"there is no gateway '{id}'{_near(id, self.gateways)}: add it to "
            f"[[ai.gateways]] of durable.toml ({known} is there)"
        )


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
