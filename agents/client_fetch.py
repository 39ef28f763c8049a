"""HTTP requests to an agent, addressed like its socket."""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import Any

import aiohttp

from agents.client_address import AgentAddress, Query


class AgentFetch:
    """A request to be sent.

    `await` it for a response that is read to its end, or enter it with `async with`
    to read the body as it comes.
    """

    def __init__(
        self,
        address: AgentAddress,
        method: str,
        session: aiohttp.ClientSession | None,
        request: dict[str, Any],
    ) -> None:
        self._address = address
        self._method = method
        self._given = session
        self._own: aiohttp.ClientSession | None = None
        self._request = request
        self._response: aiohttp.ClientResponse | None = None

    def __await__(self) -> Generator[Any, None, aiohttp.ClientResponse]:
        """Send it and read the whole response; its connection is free afterwards."""
        return self._fetch().__await__()

    async def __aenter__(self) -> aiohttp.ClientResponse:
        """Send it; the body is still to be read."""
        session = self._given
        if session is None:
            # Like `fetch`, without a limit on the whole: a body may be a stream.
            session = self._own = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=30)
            )
        try:
            url = await self._address.url("http")
            self._response = await session.request(self._method, url, **self._request)
        except BaseException:
            await self._close_session()
            raise
        return self._response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the connection."""
        if self._response is not None:
            self._response.release()
        await self._close_session()

    async def _fetch(self) -> aiohttp.ClientResponse:
        async with self as response:
            await response.read()
            return response

    async def _close_session(self) -> None:
        if self._own is not None:
            await self._own.close()
            self._own = None


def agent_fetch(
    *,
    agent: str,
    host: str,
    name: str = "default",
    path: str = "",
    prefix: str = "agents",
    base_path: str | None = None,
    query: Query | None = None,
    protocol: str | None = None,
    session: aiohttp.ClientSession | None = None,
    method: str = "GET",
    **request: Any,
) -> AgentFetch:
    """Make an HTTP request to an agent.

    The options are those of `AgentClient`; what is left (`json`, `data`, `headers`,
    `timeout`, ...) goes to aiohttp as it is. A status of 400 or more is no error.
    """
    address = AgentAddress(
        agent=agent,
        host=host,
        name=name or "default",
        path=path,
        prefix=prefix,
        base_path=base_path,
        query=query,
        protocol=protocol,
    )
    return AgentFetch(address, method, session, request)
