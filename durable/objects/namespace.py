"""All objects of one class: makes ids and stubs, without any I/O."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from durable.domain.errors import DurableError
from durable.domain.ids import (
    DurableObjectId,
    id_from_name,
    id_from_string,
    unique_id,
)

if TYPE_CHECKING:
    from durable.domain.ports import Invoker
    from durable.objects.http import Request, Response

T = TypeVar("T")


class DurableObjectNamespace:
    """``env.NAME``: the objects of the class that is bound under this name."""

    def __init__(self, name: str, cls: type[Any], tag: int, invoker: Invoker) -> None:
        self.name = name
        self.cls = cls
        self.tag = tag
        self._invoker = invoker

    def __repr__(self) -> str:
        return f"DurableObjectNamespace({self.name!r})"

    def id_from_name(self, name: str) -> DurableObjectId:
        """The id of a name: always the same one."""
        return id_from_name(self.tag, name)

    def new_unique_id(self) -> DurableObjectId:
        """A new random id."""
        return unique_id(self.tag)

    def id_from_string(self, text: str) -> DurableObjectId:
        """Read an id from ``str(id)``; ValueError if it isn't one of this namespace."""
        return id_from_string(self.tag, text)

    def get(self, object_id: DurableObjectId, *, props: Any = None) -> Any:
        """A stub of the object, at once: nothing is read, nobody is woken.

        Raises:
            ValueError: the id belongs to another namespace.
        """
        if object_id.tag != self.tag:
            raise ValueError(f"id {object_id} belongs to another namespace")
        return DurableObjectStub(object_id, self._invoker, props)

    def get_by_name(self, name: str, *, props: Any = None) -> Any:
        """A stub of the object with this name."""
        return self.get(self.id_from_name(name), props=props)


class DurableObjectStub:
    """A caller's handle: ``await stub.method(...)``, ``await stub.fetch(request)``.

    Arguments and results are copied, as between processes. Errors carry the flags
    ``retryable``, ``overloaded``, ``remote``, ``durable_object_reset``, and the
    ``durable_object_id``.
    """

    __slots__ = ("_invoker", "_props", "id")

    def __init__(
        self, object_id: DurableObjectId, invoker: Invoker, props: Any
    ) -> None:
        self.id = object_id
        self._invoker = invoker
        self._props = props

    def __repr__(self) -> str:
        return f"DurableObjectStub({self.id.name or str(self.id)!r})"

    @property
    def name(self) -> str | None:
        """The object's name, None for a unique id."""
        return self.id.name

    def fetch(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Send an HTTP request to the object."""
        return self._named(self._invoker.fetch(self.id, request, self._props))

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            return self._named(
                self._invoker.call(self.id, method, args, kwargs, self._props)
            )

        call.__name__ = method
        return call

    def __wake__(self) -> Coroutine[Any, Any, None]:
        return self._named(self._invoker.call(self.id, "", (), {}, self._props))

    async def _named(self, work: Coroutine[Any, Any, T]) -> T:
        """Let an error say which object it is about."""
        try:
            return await work
        except DurableError as error:
            if error.durable_object_id is None:
                error.durable_object_id = str(self.id)
            raise


async def wake(stub: DurableObjectStub) -> None:
    """Return when the stub's object is awake; raises if it can't start.

    No method of the stub: all names there are the object's.
    """
    await stub.__wake__()
