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

    ``namespaces`` are all of the first kind; ``cache`` is for an SDK's derived tables.
    """

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.namespaces: dict[str, DurableObjectNamespace] = {}
        self.cache: dict[str, Any] = {}
        self._variables = variables

    def __repr__(self) -> str:
        # Values may be secrets.
        return f"Env({[*self.namespaces, *self._variables]})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        namespace = self.namespaces.get(name)
        if namespace is not None:
            return namespace
        if name not in self._variables:
            bound = ", ".join([*self.namespaces, *self._variables]) or "nothing"
            raise AttributeError(f"{name} is not bound in env; {bound} is")
        # All objects share this env: no one may change another's tables and lists.
        return copy.deepcopy(self._variables[name])
