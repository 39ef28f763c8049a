"""``env``: the bindings an object may use."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable.objects.namespace import DurableObjectNamespace

# Set around request handlers that run outside of any object.
current_env: ContextVar[Any] = ContextVar("current_env", default=None)


class Env:
    """Namespaces by class name, then variables: ``env.Counter``, ``env.API_URL``.

    ``namespaces`` are all of the first kind; ``cache`` is for an SDK's derived tables.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.namespaces: dict[str, DurableObjectNamespace] = {}
        self.cache: dict[str, Any] = {}
        self._variables = variables

    def __repr__(self) -> str:
        # Values may be secrets.
        return f"Env({[*self.namespaces, *self._variables]})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self.namespaces.get(name) or self._variables[name]
        except KeyError:
            bound = ", ".join([*self.namespaces, *self._variables]) or "nothing"
            raise AttributeError(f"{name} is not bound in env; {bound} is") from None
