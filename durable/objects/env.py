"""``env``: the bindings an object may use."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable.objects.namespace import DurableObjectNamespace

# Set around request handlers that run outside of any object.
current_env: ContextVar[Any] = ContextVar("current_env", default=None)


class Env:
    """Namespaces by name of binding, then variables: ``env.MAIL``, ``env.API_URL``.

    ``namespaces`` are all of the first kind; ``services`` are what an SDK adds, as
    ``env.AI``; ``cache`` is for its derived tables.
    """

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.namespaces: dict[str, DurableObjectNamespace] = {}
        self.services: dict[str, Any] = {}
        self.cache: dict[str, Any] = {}
        self._variables = variables

    def __repr__(self) -> str:
        # Values may be secrets.
        return f"Env({self._names()})"

    def _names(self) -> list[str]:
        return [*self.namespaces, *self.services, *self._variables]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        namespace = self.namespaces.get(name)
        if namespace is not None:
            return namespace
        if name in self.services:
            return self.services[name]
        if name not in self._variables:
            bound = ", ".join(self._names()) or "nothing"
            hint = "; [ai] in durable.toml binds it" if name == "AI" else ""
            raise AttributeError(f"{name} is not bound in env; {bound} is{hint}")
        # All objects share this env: no one may change another's tables and lists.
        return copy.deepcopy(self._variables[name])
