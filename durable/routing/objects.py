"""The objects of one node, as the router and the link see them: values are text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from durable.domain.errors import DurableError, RemoteError
from durable.domain.ids import DurableObjectId
from durable.objects import codec
from durable.objects.http import aclose
from durable.objects.streams import is_stream

if TYPE_CHECKING:
    from durable.objects.http import Request, Response

# A result as the codec writes it, or one after the other, if the method streams.
Returned = str | AsyncIterator[str]


class Objects(Protocol):
    """Objects that a node owns, here or over the link.

    Both raise ``Moved``, before anything has run, if it doesn't own the object.
    """

    async def fetch(
        self, target: DurableObjectId, request: Request, props: Any
    ) -> Response:
        """Deliver an HTTP request."""

    async def call(
        self, target: DurableObjectId, method: str, sent: str, props: Any
    ) -> Returned:
        """Deliver a call; ``sent`` and what returns are the codec's text."""


class Dispatching(Protocol):
    """The dispatcher of this process."""

    async def fetch(
        self, object_id: DurableObjectId, request: Request, props: Any
    ) -> Any:
        """Deliver an HTTP request."""

    async def call(
        self,
        object_id: DurableObjectId,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        props: Any,
    ) -> Any:
        """Deliver a call."""


class LocalObjects:
    """The objects of this process, which get copies of what they are passed."""

    def __init__(self, dispatcher: Dispatching) -> None:
        self._dispatcher = dispatcher

    async def fetch(self, target: DurableObjectId, request: Request, props: Any) -> Any:
        """Deliver an HTTP request."""
        return await self._dispatcher.fetch(target, request, props)

    async def call(
        self, target: DurableObjectId, method: str, sent: str, props: Any
    ) -> Returned:
        """Deliver a call.

        Raises:
            RemoteError: the object's code raised, or returned what can't be sent.
        """
        args, kwargs = codec.decode(sent)
        try:
            result = await self._dispatcher.call(target, method, args, kwargs, props)
        except (DurableError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise _remote(error) from error
        return _texts(result) if is_stream(result) else codec.encode_text(result)


async def _texts(results: AsyncIterator[Any]) -> AsyncIterator[str]:
    try:
        async for result in results:
            yield codec.encode_text(result)
    except DurableError:
        raise
    except Exception as error:
        raise _remote(error) from error
    finally:
        await aclose(results)


def _remote(error: Exception) -> RemoteError:
    return RemoteError(str(error), name=type(error).__name__)
