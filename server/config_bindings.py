"""From the bindings of the configuration to the namespaces of ``env``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from agents.naming import kebab_case
from durable import DurableObject, DurableObjectId, DurableObjectNamespace, Unavailable
from durable.domain.ports import Invoker
from server.config_project import Binding, Project
from server.config_reader import ConfigError

Classes = Mapping[str, type[DurableObject]]


def bindings_of(project: Project, classes: Classes) -> tuple[Binding, ...]:
    """What ``env`` gets: the project's bindings, or every class under its own name.

    Raises:
        ConfigError: a class isn't in the module, or two names make one URL segment.
    """
    if not project.bindings:
        return tuple(Binding(name=name, class_name=name) for name in classes)
    segments: dict[str, Binding] = {}
    for binding in project.bindings:
        if binding.script_name is None and binding.class_name not in classes:
            raise ConfigError(f"{binding.where}: {_missing(binding, classes)}")
        other = segments.setdefault(kebab_case(binding.name), binding)
        if other is not binding:
            raise ConfigError(
                f"{binding.where}: {other.name} and {binding.name} are both "
                f"'{kebab_case(binding.name)}' in URLs; rename one"
            )
    return project.bindings


def _missing(binding: Binding, classes: Classes) -> str:
    text = f"the module has no class {binding.class_name}"
    near = difflib.get_close_matches(binding.class_name, classes, n=1)
    if near:
        return f"{text}; did you mean {near[0]}?"
    found = ", ".join(classes) or "no class that can be bound"
    return f"{text}, it has {found}; script_name names the app of a class elsewhere"


def namespace_of(
    binding: Binding, classes: Classes, tag: int, router: Invoker
) -> DurableObjectNamespace:
    """The namespace of one binding."""
    if binding.script_name is None:
        cls = classes[binding.class_name]
        return DurableObjectNamespace(binding.name, cls, tag, router)
    # Of a class of another app only the name is known here.
    return DurableObjectNamespace(
        binding.name, DurableObject, tag, _Elsewhere(binding, binding.script_name)
    )


class _Elsewhere:
    """Refuses calls to objects of another app, which no node of ours can run."""

    def __init__(self, binding: Binding, script_name: str) -> None:
        self._text = (
            f"env.{binding.name} is the class {binding.class_name} of the app "
            f"'{script_name}', and this node hosts none of that app's objects"
        )

    async def fetch(self, target: DurableObjectId, request: Any, props: Any) -> Any:
        raise Unavailable(self._text)

    async def call(
        self,
        target: DurableObjectId,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        props: Any,
    ) -> Any:
        raise Unavailable(self._text)
