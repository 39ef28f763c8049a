"""What ``durable.toml`` says, as data; without a file the defaults below hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from agents.ai.settings import AISettings
from server.config_migrations import Migration


@dataclass(frozen=True, slots=True)
class Binding:
    """``env.NAME`` is the namespace of a class, of this app or of another one."""

    name: str
    class_name: str
    script_name: str | None = None
    """The other app; None: the class is in our own module."""
    where: str = field(default="", compare=False)
    """File, line and key, for errors that show only when the module is loaded."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A setting's value, and the file, line and key that it is from."""

    value: Any
    where: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Project:
    """The configuration of one app."""

    name: str | None = None
    main: Configured | None = None
    """``MODULE[:ATTR]``, what is served where the command line names nothing."""
    bindings: tuple[Binding, ...] = ()
    """Empty: every class of the module is bound under its own name."""
    migrations: tuple[Migration, ...] = ()
    ai: AISettings | None = None
    """``[ai]``: models, and the binding ``env.AI``; None: there is none."""
    settings: Mapping[str, Configured] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Fields of ``Settings`` by name, of lower rank than the environment."""
    vars: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )
    """``[vars]`` and over them ``.dev.vars``; the latter may be secrets."""

    @property
    def bound(self) -> tuple[str, ...]:
        """The names that ``env`` has beside variables."""
        names = tuple(binding.name for binding in self.bindings)
        return names if self.ai is None else (*names, self.ai.binding)
