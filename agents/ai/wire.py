"""One request to one provider over HTTP. No error, log or repr of it has the key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from yarl import URL

from agents.ai.errors import AIError, AITimeout
from agents.ai.settings import Model, Provider
from agents.ai.shapes import error_text

CONNECT_SECONDS: Final = 10.0
STREAM_IDLE_SECONDS: Final = 300.0
"""How long a stream may say nothing."""
MAX_ANSWER_BYTES: Final = 64 * 2**20
MAX_EVENT_BYTES: Final = 8 * 2**20
# What is shown of a provider's own words.
_ERROR_CHARACTERS: Final = 500
_AGAIN: Final = frozenset({408, 409, 425, 429, *range(500, 600)})
_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: provider, model and the key that no repr shows."""

    provider: Provider
    model: Model
    base_url: str = field(repr=False)
    key: str | None = field(repr=False)

    def failed(
        self, text: str, *, said: str = "", retryable: bool = False, **more: Any
    ) -> AIError:
        """An error that names the provider; ``said`` are the provider's words."""
        return self._error(AIError, text, said, retryable=retryable, **more)

    def too_slow(self, seconds: float) -> AIError:
        """It took longer than the request may."""
        text = f"gave no answer in {seconds:g} s (request_timeout_ms)"
        return self._error(AITimeout, text, retryable=True)

    def _error(
        self, kind: type[AIError], text: str, said: str = "", **more: Any
    ) -> AIError:
        name = f"the provider '{self.provider.name}' {text}"
        if said:
            name += f": {said[:_ERROR_CHARACTERS]}"
        return kind(self.redact(name), provider=self.provider.name, **more)

    @property
    def place(self) -> str:
        """The base URL without user and password, which a variable's may have."""
        try:
            return str(URL(self.base_url).with_user(None).with_query(None))
        except ValueError:
            return "its base_url"

    def redact(self, text: str) -> str:
        """The text without the key, which some providers repeat."""
        return text.replace(self.key, "***") if self.key else text


class Wire:
    """The node's connections to providers, made when the first one is needed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Streams are long: a limit would have requests wait for each other.
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                # One user's cookies are nothing for another one's request.
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def aclose(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        target: Target,
        endpoint: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        seconds: float,
    ) -> Any:
        """Return the whole answer, as JSON.

        Raises:
            AIError: there is none.
        """
        try:
            with _told(target):
                async with asyncio.timeout(seconds):
                    response = await self._post(target, endpoint, body, headers)
                    async with response:
                        data = await _bounded(target, response)
        except TimeoutError:
            raise target.too_slow(seconds) from None
        try:
            return json.loads(data)
        except ValueError:
            raise target.failed("answered with what is no JSON") from None

    async def open(
        self,
        target: Target,
        endpoint: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> aiohttp.ClientResponse:
        """Return the response of a stream that has begun; the caller closes it.

        Raises:
            AIError: it was refused, or isn't a stream.
        """
        with _told(target):
            response = await self._post(target, endpoint, body, headers)
        if response.content_type != "text/event-stream":
            response.close()
            raise target.failed(
                f"answered with {response.content_type} where a stream of events was "
                "asked for"
            )
        return response

    async def _post(
        self,
        target: Target,
        endpoint: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> aiohttp.ClientResponse:
        sent = dict(headers)
        if target.key is not None:
            sent["Authorization"] = f"Bearer {target.key}"
        response = await self._open().post(
            f"{target.base_url}/{endpoint}",
            json=body,
            headers=sent,
            # The key is for this address alone.
            allow_redirects=False,
        )
        if response.status != 200:
            async with response:
                raise await _refused(target, response)
        return response


async def events(
    target: Target, response: aiohttp.ClientResponse
) -> AsyncIterator[str]:
    """The data of each event of a stream, as it comes.

    Raises:
        AIError: the connection broke, or an event is too large.
    """
    held, data = b"", []
    with _told(target):
        async for piece in response.content.iter_any():
            *lines, held = _LINE_END.split(held + piece)
            for line in lines:
                if line.startswith(b"data:"):
                    data.append(line[5:].removeprefix(b" "))
                    _check_size(target, sum(map(len, data)))
                elif not line and data:
                    yield b"\n".join(data).decode(errors="replace")
                    data = []
            _check_size(target, len(held) + sum(map(len, data)))
    # A last event that no empty line ends is still one.
    if held.startswith(b"data:"):
        data.append(held[5:].strip())
    if data:
        yield b"\n".join(data).decode(errors="replace")


def _check_size(target: Target, size: int) -> None:
    if size > MAX_EVENT_BYTES:
        raise target.failed(f"sent an event of more than {MAX_EVENT_BYTES:,} bytes")


async def _bounded(target: Target, response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > MAX_ANSWER_BYTES:
            response.close()
            raise target.failed(
                f"sent an answer of more than {MAX_ANSWER_BYTES:,} bytes"
            )
    return bytes(data)


@contextlib.contextmanager
def _told(target: Target) -> Iterator[None]:
    """A connection that fails is told as the provider's; our own limit goes through."""
    try:
        yield
    except aiohttp.ClientError as error:
        raise _broken(target, error) from None
    except TimeoutError:
        raise
    except OSError as error:
        raise _broken(target, error) from None


def _broken(target: Target, error: Exception) -> AIError:
    """The error's own text may have headers in it: its kind is enough."""
    if isinstance(error, (aiohttp.ClientConnectorError, TimeoutError)):
        what = f"can't be reached at {target.place}: is it running?"
    elif isinstance(error, aiohttp.InvalidURL):
        what = "has no address that is one"
    else:
        what = f"broke off its answer ({type(error).__name__})"
    return target.failed(what, retryable=True)


async def _refused(target: Target, response: aiohttp.ClientResponse) -> AIError:
    try:
        text = (await _bounded(target, response)).decode(errors="replace")
    except (AIError, aiohttp.ClientError, OSError):
        text = ""
    # It may be a proxy's page: shown as it is.
    with contextlib.suppress(ValueError):
        text = error_text(json.loads(text)) or text
    status = response.status
    return target.failed(
        f"answered {status}{_advice(target, status)}",
        said=text.strip(),
        status=status,
        retryable=status in _AGAIN,
        retry_after=_seconds(response.headers.get("Retry-After")),
    )


def _advice(target: Target, status: int) -> str:
    variable = target.provider.api_key_var
    if status in (401, 403) and variable is None:
        return " (it wants a key: name its variable with api_key_var in durable.toml)"
    if status in (401, 403):
        return f" (is DURABLE_VAR_{variable} right?)"
    if status == 404:
        return f" (is {target.place} right, and does it have '{target.model.model}'?)"
    if status == 429:
        return " (too many requests: gateway retries, or another model, may help)"
    if 300 <= status < 400:
        return " (a redirection, which isn't followed: set base_url to where it leads)"
    return ""


def _seconds(text: str | None) -> float | None:
    """``Retry-After`` in seconds; its other form, a date, is rare and not read."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
