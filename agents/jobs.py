"""Calling an agent's method later: by name, with a payload, again if it raises."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import string
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from agents.retries import RetryOptions, retry
from durable import ValueRefused, json_text

if TYPE_CHECKING:
    from agents.agent import Agent

MAX_PAYLOAD_BYTES = 2_000_000
# One try of a callback may take so long; beyond, it has failed.
RUN_SECONDS = 900.0
# A job in which the process ended so often isn't begun again.
MAX_CRASHES = 3
MAX_ERROR_CHARACTERS = 2000

_ALPHABET = string.digits + string.ascii_letters


class CallbackGone(LookupError):
    """The class has no method of the name that was planned, since a deploy perhaps."""


def new_id() -> str:
    """A random id of 9 characters."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))


def callback_name(agent: Agent[Any, Any], callback: Any) -> str:
    """The name of a method, given by name or as a bound method of the agent.

    Raises:
        AttributeError: the class has no such method.
        TypeError: something else.
    """
    if isinstance(callback, str):
        name = callback
    elif getattr(callback, "__self__", None) is agent:
        name = callback.__name__
    else:
        raise TypeError(
            "a callback is the name of a method, or a method of this agent "
            f"(self.method), not {callback!r}"
        )
    if not callable(getattr(type(agent), name, None)):
        raise AttributeError(
            f"{type(agent).__name__} has no method {name!r} to call back"
        )
    return name


def encoded_payload(payload: Any) -> msgspec.Raw:
    """A payload as JSON.

    Raises:
        ValueRefused: not JSON (with the path), or over 2 MB.
    """
    raw = json_text.dumps_strict(payload, "payload")
    if len(raw) > MAX_PAYLOAD_BYTES:
        raise ValueRefused(
            f"a payload is at most {MAX_PAYLOAD_BYTES} bytes of JSON, this has "
            f"{len(raw)}: store it under a key, and plan with the key"
        )
    return msgspec.Raw(raw)


def decoded(raw: msgspec.Raw) -> Any:
    """A fresh copy of what was encoded."""
    return json_text.loads(bytes(raw))


async def run_job(
    agent: Agent[Any, Any],
    name: str,
    payload: msgspec.Raw,
    told: Any,
    options: RetryOptions | None,
) -> None:
    """Call ``name(payload, told)``, as many of the two as it takes.

    Raises:
        CallbackGone: there is no such method any more.
        Exception: the last try's.
    """
    method = getattr(agent, name, None)
    if not callable(method):
        raise CallbackGone(f"{type(agent).__name__} has no method {name!r} any more")

    async def once(_: int) -> None:
        async with asyncio.timeout(RUN_SECONDS):
            await call_fitting(agent, method, decoded(payload), told)

    await retry(once, options or type(agent).retry_options)


async def call_fitting(
    agent: Agent[Any, Any], method: Callable[..., Any], *args: Any
) -> Any:
    """Call with the first arguments, as many as the signature has room for."""
    kinds = [p.kind for p in inspect.signature(method).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        room = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
        args = args[: sum(kind in room for kind in kinds)]
    return await agent.run_hook(method, *args)


def error_text(error: BaseException) -> str:
    """An error in words that can be stored."""
    text = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
    return (
        text.replace("\0", "\N{REPLACEMENT CHARACTER}")
        .encode(errors="replace")
        .decode()
    )
