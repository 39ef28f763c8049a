"""All objects of one class: makes ids and stubs, without any I/O."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from durable.domain.errors import DurableError
from durable.domain.ids import (
    JURISDICTIONS,
    DurableObjectId,
    id_from_name,
    id_from_string,
    unique_id,
)
from durable.objects.http import aclose
from durable.objects.streams import is_stream

if TYPE_CHECKING:
    from durable.domain.ports import Invoker
    from durable.objects.http import Request, Response

T = TypeVar("T")

# What Cloudflare knows; ``DURABLE_LABELS`` of workers are for operators.
LOCATION_HINTS = (
    *("wnam", "enam", "sam", "weur", "eeur", "apac", "apac-ne", "apac-se", "oc"),
    *("afr", "me"),
)


class DurableObjectNamespace:
    """``env.NAME``: the objects of the class that is bound under this name."""

    def __init__(
        self,
        name: str,
        cls: type[Any],
        tag: int,
        invoker: Invoker,
        jurisdiction: str | None = None,
    ) -> None:
        self.name = name
        self.cls = cls
        self.tag = tag
        self._invoker = invoker
        self._jurisdiction = jurisdiction

    def __repr__(self) -> str:
        within = f", {self._jurisdiction!r}" if self._jurisdiction else ""
        return f"DurableObjectNamespace({self.name!r}{within})"

    def jurisdiction(self, jurisdiction: str) -> DurableObjectNamespace:
        """The same class's objects of one jurisdiction; their ids are apart.

        All data is in your Postgres, wherever that is: what is kept is the separation.

        Raises:
            ValueError: not one of eu, us, fedramp and fedramp-high.
        """
        _check_jurisdiction(jurisdiction)
        return DurableObjectNamespace(
            self.name, self.cls, self.tag, self._invoker, jurisdiction
        )

    def id_from_name(self, name: str) -> DurableObjectId:
        """The id of a name: always the same one."""
        return id_from_name(self.tag, name, self._jurisdiction)

    def new_unique_id(self, *, jurisdiction: str | None = None) -> DurableObjectId:
        """A new random id.

        Raises:
            ValueError: a jurisdiction that there isn't, or another one than this
                namespace's.
        """
        if jurisdiction is not None:
            _check_jurisdiction(jurisdiction)
            if self._jurisdiction not in (None, jurisdiction):
                raise ValueError(f"this namespace is that of {self._jurisdiction}")
        return unique_id(self.tag, jurisdiction or self._jurisdiction)

    def id_from_string(self, text: str) -> DurableObjectId:
        """Read an id from ``str(id)``; ValueError if it isn't one of this namespace."""
        return self._checked(id_from_string(self.tag, text))

    def get(
        self,
        object_id: DurableObjectId,
        *,
        props: Any = None,
        location_hint: str | None = None,
    ) -> Any:
        """A stub of the object, at once: nothing is read, nobody is woken.

        ``location_hint``: one of Cloudflare's. It is checked and has no effect: an
        object is where its shard is, near your Postgres.

        Raises:
            ValueError: the id belongs to another namespace or jurisdiction, or there
                is no such hint.
        """
        if location_hint is not None and location_hint not in LOCATION_HINTS:
            raise ValueError(
                f"{location_hint!r} is no location hint: {', '.join(LOCATION_HINTS)}"
            )
        return DurableObjectStub(self._checked(object_id), self._invoker, props)

    def get_by_name(
        self, name: str, *, props: Any = None, location_hint: str | None = None
    ) -> Any:
        """A stub of the object with this name."""
        object_id = self.id_from_name(name)
        return self.get(object_id, props=props, location_hint=location_hint)

    def _checked(self, object_id: DurableObjectId) -> DurableObjectId:
        if object_id.tag != self.tag:
            raise ValueError(f"id {object_id} belongs to another namespace")
        if self._jurisdiction and object_id.jurisdiction != self._jurisdiction:
            raise ValueError(f"id {object_id} isn't one of {self._jurisdiction}")
        return object_id


def _check_jurisdiction(jurisdiction: str) -> None:
    if jurisdiction not in JURISDICTIONS:
        known = ", ".join(JURISDICTIONS)
        raise ValueError(f"{jurisdiction!r} is no jurisdiction: {known}")


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

        def call(*args: Any, **kwargs: Any) -> Call:
            sending = self._invoker.call(self.id, method, args, kwargs, self._props)
            return Call(self._named(sending))

        call.__name__ = method
        return call

    def __wake__(self) -> Coroutine[Any, Any, None]:
        return self._named(self._invoker.call(self.id, "", (), {}, self._props))

    async def _named(self, work: Coroutine[Any, Any, T]) -> T:
        """Let an error say which object it is about."""
        try:
            return await work
        except DurableError as error:
            error.is_about(self.id)
            raise


class Call(Coroutine[Any, Any, Any]):
    """A call under way: await its result, or iterate over them if the method streams.

    Both ``await stub.method()`` and ``async for item in stub.method()``; of a method
    that streams the awaited result is an async iterator.
    """

    __slots__ = ("_work",)

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        results = await self._work
        if not is_stream(results):
            raise TypeError(
                f"the method returned {type(results).__name__}, not an async iterator: "
                "await it"
            )
        try:
            async for result in results:
                yield result
        finally:
            await aclose(results)

    def send(self, value: Any) -> Any:
        """Take a step, as a coroutine."""
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise inside, as a coroutine."""
        return self._work.throw(*error)

    def close(self) -> None:
        """End early, as a coroutine."""
        self._work.close()


async def wake(stub: DurableObjectStub) -> None:
    """Return when the stub's object is awake; raises if it can't start.

    No method of the stub: all names there are the object's.
    """
    await stub.__wake__()
