"""Calling an agent's method later: by name, with a payload, again if it raises."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import string
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from agents import work_clock
from agents.retries import RetryOptions, retry
from agents.work_clock import milliseconds
from durable import ValueRefused, json_text

if TYPE_CHECKING:
    from agents.agent import Agent

MAX_PAYLOAD_BYTES = 2_000_000
# One try of a callback may take so long; beyond, it has failed.
RUN_SECONDS = 900.0
# A job in which the process ended so often isn't begun again: one time before a third
# owner in a row is lost to an object.
MAX_CRASHES = 2
# Nor is one that was cut off so often in a process that lived on (failed commits).
MAX_RESETS = 5
MAX_ERROR_CHARACTERS = 2000

ID_LENGTH = 9
_ALPHABET = string.digits + string.ascii_letters


# This process, to know whether it is the one that began a job.
_PROCESS = secrets.token_hex(8)


class JobRow(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What rows of jobs have in common: whether a run was begun, and what cut it off.

    Written before a run begins, so that a run which takes its process down is counted.
    """

    # Milliseconds since the epoch; None if it isn't being run.
    started: int | None = None
    runner: str | None = None
    crashes: int = 0
    resets: int = 0

    def begin(self) -> int:
        """It is run from now on; returns the time."""
        self.started = milliseconds(work_clock.now())
        self.runner = _PROCESS
        return self.started

    def settle(self) -> None:
        """It isn't run, and nothing is held against it."""
        self.started, self.runner, self.crashes, self.resets = None, None, 0, 0

    def cut_off(self) -> RunCutOff | None:
        """Count a run that was begun and never ended; an error if they are too many."""
        if self.started is None:
            return None
        if self.runner == _PROCESS:
            self.resets += 1
        else:
            self.crashes += 1
        if self.crashes < MAX_CRASHES and self.resets < MAX_RESETS:
            return None
        return RunCutOff(
            f"the process ended in {self.crashes} runs of it, and the agent was reset "
            f"in {self.resets}"
        )


class RunCutOff(Exception):
    """Runs of a job didn't end, time and again: neither well nor with an exception."""


class CallbackGone(LookupError):
    """The class has no method of the name that was planned, since a deploy perhaps."""


def new_id() -> str:
    """A random id of 9 characters."""
    # One draw for all: a draw is a system call, and an agent may plan thousands.
    number, letters = secrets.randbelow(len(_ALPHABET) ** ID_LENGTH), ""
    for _ in range(ID_LENGTH):
        number, place = divmod(number, len(_ALPHABET))
        letters += _ALPHABET[place]
    return letters


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
    function = getattr(method, "__func__", None)
    # Bound methods are made anew at each access; their functions aren't.
    room = _room(method) if function is None else _room(function) - 1
    return await agent.run_hook(method, *args[:room])


@lru_cache(maxsize=1024)
def _room(function: Callable[..., Any]) -> int:
    """How many positional arguments a function takes."""
    kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return sys.maxsize
    room = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    return sum(kind in room for kind in kinds)


def error_text(error: BaseException) -> str:
    """An error in words that can be stored."""
    text = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
    return (
        text.replace("\0", "\N{REPLACEMENT CHARACTER}")
        .encode(errors="replace")
        .decode()
    )
