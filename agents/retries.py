"""Try again after a failure: so many times, with full jitter between the tries."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from agents import work_clock
from durable import must_await

Seconds = float | timedelta


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """How often and how far apart; delays are seconds (or a timedelta).

    Before try n (from 2) a random part of ``base_delay * 2 ** (n - 2)``, at most of
    ``max_delay``, is waited.
    """

    max_attempts: int = 3
    base_delay: Seconds = 0.1
    max_delay: Seconds = 3.0

    def __post_init__(self) -> None:
        tries = self.max_attempts
        if type(tries) is not int or tries < 1:
            raise ValueError(f"max_attempts is a whole number from 1, not {tries!r}")
        base = seconds_of(self.base_delay, "base_delay")
        limit = seconds_of(self.max_delay, "max_delay")
        if not 0 < base <= limit:
            raise ValueError(
                "base_delay is above 0 and at most max_delay, not "
                f"{base:g} s with {limit:g} s"
            )
        object.__setattr__(self, "base_delay", base)
        object.__setattr__(self, "max_delay", limit)

    def pause(self, failures: int) -> float:
        """Seconds until the next try, after so many failures."""
        base, limit = self.base_delay, self.max_delay
        assert not isinstance(base, timedelta)  # they were converted
        assert not isinstance(limit, timedelta)
        exponent = min(failures - 1, 60)
        return min(base * (1 << exponent), limit) * work_clock.clock.chance()


def seconds_of(value: Any, what: str) -> float:
    """A duration in seconds.

    Raises:
        TypeError: neither a number nor a timedelta.
        ValueError: not finite.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{what} is seconds or a timedelta, not a {type(value).__name__}"
        )
    if not math.isfinite(value):
        raise ValueError(f"{what} must be finite, not {value}")
    return float(value)


def retry_options(given: RetryOptions | Mapping[str, Any]) -> RetryOptions:
    """Options as an object, or as a mapping of its fields.

    Raises:
        TypeError, ValueError: with the option that is wrong.
    """
    if isinstance(given, RetryOptions):
        return given
    names = {field.name for field in fields(RetryOptions)}
    unknown = sorted(set(given) - names)
    if unknown:
        raise ValueError(
            f"retry has no option {unknown[0]!r}: it has {', '.join(sorted(names))}"
        )
    return RetryOptions(**given)


async def retry(
    fn: Callable[[int], Any],
    options: RetryOptions,
    should_retry: Callable[[Exception, int], Any] | None = None,
) -> Any:
    """Call ``fn(attempt)``, from 1, until it succeeds or the attempts are used up.

    Raises:
        Exception: the last one, or the one that ``should_retry(error, next_attempt)``
            says no to.
    """
    for attempt in range(1, options.max_attempts + 1):
        try:
            result = fn(attempt)
            return await result if must_await(result) else result
        except Exception as error:
            if attempt == options.max_attempts:
                raise
            if should_retry is not None:
                wanted = should_retry(error, attempt + 1)
                if must_await(wanted):
                    wanted = await wanted
                if not wanted:
                    raise
        await work_clock.clock.sleep(options.pause(attempt))
    raise AssertionError("there is at least one attempt")
