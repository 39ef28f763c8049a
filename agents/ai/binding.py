"""``env.AI``: asks models, by way of a gateway.

A request goes through: the gateway's cache, its rate limit, then one model after the
other, each as often as retries allow, until one answers. What became of it is a row of
the gateway's log.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from agents.ai.call import MAX_CACHED_BYTES, Call, cache_key
from agents.ai.errors import AIError, AIRateLimited
from agents.ai.gateway import GatewayHandle
from agents.ai.options import GatewayOptions, resolve
from agents.ai.settings import MAX_RETRY_DELAY_MS, AISettings, Model
from agents.ai.shapes import ENDPOINTS, ShapeError, answer_of, request_of, usage_of
from agents.ai.stream import AIStream, Begun
from agents.ai.wire import Target, Wire
from durable import DurableObjectNamespace, Response, ValueRefused, json_text

log = logging.getLogger(__name__)

# How long the end of a node waits for rows of the log.
_CLOSE_SECONDS: Final = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """One step of a request: who is asked, and what."""

    target: Target
    body: Mapping[str, Any]
    headers: Mapping[str, str]


class AI:
    """``await self.env.AI.run(model, inputs)``; see docs/ai.md."""

    def __init__(
        self,
        settings: AISettings,
        variables: Mapping[str, Any],
        gateways: DurableObjectNamespace,
    ) -> None:
        self._settings = settings
        self._variables = variables  # they may be secrets
        self._gateways = gateways
        self._wire = Wire()
        self._records: set[asyncio.Task[None]] = set()
        self.requests: Counter[tuple[str, str]] = Counter()
        """How many were made, by provider and status."""
        self.tokens: Counter[tuple[str, str]] = Counter()
        """How many were paid for, by provider and "in" or "out"."""

    def __repr__(self) -> str:
        return f"AI(providers={list(self._settings.providers)})"

    async def run(
        self,
        model: str | Sequence[str],
        inputs: Mapping[str, Any],
        *,
        stream: bool = False,
        gateway: GatewayOptions | Mapping[str, Any] | None = None,
        endpoint: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        return_raw_response: bool = False,
    ) -> Any:
        """Ask a model; of several the next one is asked when one fails.

        ``inputs``: ``messages`` or ``prompt`` for text, ``text`` for embeddings,
        ``input`` for the responses API, and the model's own parameters. The answer is a
        dict: ``response``, ``tool_calls`` if any, ``usage``; or ``shape`` and ``data``;
        with ``gateway``: what it did. With ``stream`` it is an ``AIStream``. With
        ``return_raw_response`` it is a ``Response`` with the provider's own JSON.

        Raises:
            AIError: no model answered, with what the last one said.
            AIRateLimited: the gateway's limit is reached.
            AITimeout: the last one took too long.
            ValueError: inputs or options that can't be.
        """
        names = [model] if isinstance(model, str) else list(model)
        if not names:
            raise ValueError("name a model")
        options, headers = resolve(self._settings, gateway, extra_headers)
        is_stream = bool(inputs.get("stream", stream))
        inputs = {key: value for key, value in inputs.items() if key != "stream"}
        endpoint, body = request_of("", inputs, is_stream, endpoint)
        asks = []
        for name in names:
            target = self._target(self._settings.model(name))
            asks.append(Ask(target, {**body, "model": target.model.model}, headers))
        call = Call(options, endpoint, is_stream)
        return await self._make(call, asks, raw=return_raw_response)

    async def run_steps(
        self, gateway: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]
    ) -> Response:
        """For ``gateway(id).run``: each step has provider, endpoint, headers, query."""
        asks, is_stream, endpoint = [], False, ""
        merged: dict[str, str] = {}
        for request in requests:
            provider, query = str(request["provider"]), dict(request["query"])
            if provider not in self._settings.providers:
                known = ", ".join(self._settings.providers) or "none"
                raise AIError(f"there is no provider '{provider}': {known} is there")
            endpoint = str(request["endpoint"]).strip("/")
            if endpoint not in ENDPOINTS:
                raise ValueError(f"{endpoint!r} is none of {', '.join(ENDPOINTS)}")
            name = str(query.get("model", ""))
            found = self._settings.models.get(f"{provider}/{name}")
            model = found or Model(f"{provider}/{name}", provider, name)
            merged |= request.get("headers") or {}
            _, headers = resolve(self._settings, gateway, request.get("headers"))
            is_stream = bool(query.get("stream"))
            asks.append(Ask(self._target(model), query, headers))
        options, _ = resolve(self._settings, gateway, merged)
        call = Call(options, endpoint, is_stream)
        response: Response = await self._make(call, asks, raw=True)
        return response

    def gateway(self, id: str) -> GatewayHandle:
        """One gateway: its log, and requests in the form of the universal endpoint.

        Raises:
            AIError: there is no such gateway.
        """
        found = self._settings.gateway(id)
        stub = self._gateways.get_by_name(found.id)
        return GatewayHandle(self, found.id, lambda name, *a: _outside(stub, name, *a))

    def url_of(self, provider: str) -> str:
        """A provider's base URL.

        Raises:
            AIError: there is no such provider.
        """
        if provider not in self._settings.providers:
            raise AIError(f"there is no provider '{provider}'", provider=provider)
        return self._settings.providers[provider].address(self._variables)

    async def aclose(self) -> None:
        """Write down what is still to be written down, and hang up."""
        if self._records:
            await asyncio.wait(self._records, timeout=_CLOSE_SECONDS)
        await self._wire.aclose()

    # --- one request

    def _target(self, model: Model) -> Target:
        provider = self._settings.providers[model.provider]
        address = provider.address(self._variables)
        return Target(provider, model, address, provider.key(self._variables))

    async def _make(self, call: Call, asks: list[Ask], *, raw: bool) -> Any:
        first = asks[0]
        _now_with(call, 0, first.target)
        key = None
        if call.options.gateway.cache_ttl > 0 and not call.is_stream:
            own = call.options.cache_key
            key = cache_key(first.target, call.endpoint, first.body, first.headers, own)
        try:
            said = await self._admitted(call, key)
            if call.is_stream:
                begun = await self._first_of(call, asks, self._begin(call))
                return self._stream(call, begun, raw=raw)
            if said is None:
                said = await self._first_of(call, asks, self._whole(call))
                fill = _fill(call, key, said)
            else:
                fill = None
            call.usage = usage_of(said)
            answer = answer_of(call.endpoint, said)
        except AIError as error:
            await self._record(call, "error", error)
            raise
        except asyncio.CancelledError:
            self._later(self._record(call, "cancelled"))
            raise
        await self._record(call, "ok", fill=fill)
        if raw:
            return Response.json(said, headers=call.headers)
        return {**answer, "gateway": call.about}

    async def _admitted(self, call: Call, key: str | None) -> Any:
        """What the cache has; None if a provider may be asked.

        Raises:
            AIRateLimited: it may not.
        """
        gateway = call.options.gateway
        if key is not None:
            call.cache_status = "MISS"
        if key is None and gateway.rate is None:
            return None
        rate = gateway.rate
        limit = rate and {
            "limit": rate.limit,
            "interval": rate.interval,
            "technique": rate.technique,
        }
        stub = self._gateways.get_by_name(gateway.id)
        admitted = await _outside(stub, "admit", key, limit)
        if admitted["hit"] is not None:
            call.cache_status = "HIT"
        elif admitted["wait"]:
            assert rate is not None  # nothing else makes one wait
            raise AIRateLimited(
                f"the gateway '{gateway.id}' lets {rate.limit} requests through in "
                f"{rate.interval:g} s; again in {admitted['wait']:.3g} s",
                status=429,
                retry_after=admitted["wait"],
                retryable=True,
            )
        return admitted["hit"]

    async def _first_of(
        self, call: Call, asks: list[Ask], attempt: Callable[[Ask], Awaitable[T]]
    ) -> T:
        """The first answer: of the first model, of its retries, of the next one.

        Raises:
            AIError: nobody answered; the last one's.
        """
        gateway = call.options.gateway
        failed: AIError | None = None
        for step, ask in enumerate(asks):
            _now_with(call, step, ask.target)
            for count in range(1, gateway.max_attempts + 1):
                call.attempts += 1
                try:
                    return await attempt(ask)
                except AIError as error:
                    failed = error
                log.warning("attempt %d of %d: %s", count, gateway.max_attempts, failed)
                wait = failed.retry_after
                if wait is None:
                    wait = call.options.delay(count)
                is_last = count == gateway.max_attempts
                too_long = wait > MAX_RETRY_DELAY_MS / 1000
                if is_last or too_long or not failed.retryable:
                    break
                await asyncio.sleep(wait)
        assert failed is not None  # there is one model at least
        raise failed

    def _whole(self, call: Call) -> Callable[[Ask], Awaitable[Any]]:
        seconds = call.options.gateway.request_timeout_ms / 1000

        async def attempt(ask: Ask) -> Any:
            said = await self._wire.ask(
                ask.target, call.endpoint, ask.body, ask.headers, seconds
            )
            try:
                answer_of(call.endpoint, said)
            except ShapeError as error:
                raise ask.target.failed("gave no answer", said=str(error)) from None
            return said

        return attempt

    def _begin(self, call: Call) -> Callable[[Ask], Awaitable[Begun]]:
        seconds = call.options.gateway.request_timeout_ms / 1000

        async def attempt(ask: Ask) -> Begun:
            begun: Begun | None = None
            try:
                async with asyncio.timeout(seconds):
                    response = await self._wire.open(
                        ask.target, call.endpoint, ask.body, ask.headers
                    )
                    begun = Begun(ask.target, call.endpoint, response)
                    await begun.begin()
            except TimeoutError:
                if begun is not None:
                    begun.close()
                raise ask.target.too_slow(seconds) from None
            except BaseException:
                if begun is not None:
                    begun.close()
                raise
            return begun

        return attempt

    def _stream(self, call: Call, begun: Begun, *, raw: bool) -> Any:
        stream = AIStream(self._chunks(call, begun), call, begun.close)
        if not raw:
            return stream
        headers = {"Content-Type": "text/event-stream", **call.headers}
        return Response(stream.sse(), headers=headers)

    async def _chunks(
        self, call: Call, begun: Begun
    ) -> AsyncGenerator[dict[str, Any], None]:
        status, failed = "cancelled", None
        try:
            async for chunk in begun.chunks():
                call.usage = begun.usage
                yield chunk
            status = "ok"
        except AIError as error:
            status, failed = "error", error
            raise
        finally:
            begun.close()
            record = self._record(call, status, failed)
            if status == "cancelled":
                self._later(record)
            else:
                await record

    # --- the log

    async def _record(
        self,
        call: Call,
        status: str,
        error: AIError | None = None,
        fill: dict[str, Any] | None = None,
    ) -> None:
        """Write it down; if that can't be done the answer isn't lost for it."""
        self._count(call, status)
        gateway = call.options.gateway
        row = call.row(status, error) if gateway.collect_log else None
        if row is None and fill is None:
            return
        stub = self._gateways.get_by_name(gateway.id)
        try:
            await _outside(stub, "record", row, fill)
        except Exception as failure:  # noqa: BLE001 - said, and gone on without
            log.warning("no row in the log of gateway '%s': %s", gateway.id, failure)

    def _count(self, call: Call, status: str) -> None:
        self.requests[call.provider, status] += 1
        if call.cache_status != "HIT":
            usage = call.usage
            self.tokens[call.provider, "in"] += usage.get("prompt_tokens", 0)
            self.tokens[call.provider, "out"] += usage.get("completion_tokens", 0)

    def _later(self, record: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(record)
        self._records.add(task)
        task.add_done_callback(self._records.discard)


def _now_with(call: Call, step: int, target: Target) -> None:
    call.step, call.model, call.provider = step, target.model, target.provider.name


def _fill(call: Call, key: str | None, said: Any) -> dict[str, Any] | None:
    """What goes into the cache: the answer of the model that the key is for."""
    if key is None or call.step > 0:
        return None
    try:
        size = len(json_text.dumps(said))
    except ValueRefused:  # such as NaN, which some servers write
        return None
    if size > MAX_CACHED_BYTES:
        return None
    return {"key": key, "ttl": call.options.gateway.cache_ttl, "answer": said}


async def _outside(stub: Any, method: str, *args: Any) -> Any:
    """Call a gateway's object as if from outside: it is no part of the caller's work.

    A row of the log must be written also if the caller's own commit fails.
    """
    return await asyncio.get_running_loop().create_task(
        _called(stub, method, *args), context=contextvars.Context()
    )


async def _called(stub: Any, method: str, *args: Any) -> Any:
    return await getattr(stub, method)(*args)
