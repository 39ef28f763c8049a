"""What can go wrong between an agent and a model."""

from __future__ import annotations


class AIError(Exception):
    """A model gave no answer: which provider, what it said, what to do.

    No text of it has a key. ``status`` is the provider's HTTP status, if it got as far;
    ``retry_after`` the seconds after which it may be asked again, if it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.retry_after = retry_after
        self.retryable = retryable


class AIRateLimited(AIError):
    """The gateway's own limit: nobody was asked."""


class AITimeout(AIError):
    """The provider took longer than ``request_timeout_ms``."""
