"""Errors → what a client may know of them. No stack trace leaves the process."""

from __future__ import annotations

import logging
import secrets

from durable import (
    BodyTooLarge,
    BodyTooSlow,
    DurableError,
    NameRefused,
    Overloaded,
    Quarantined,
    Response,
    Unavailable,
)

log = logging.getLogger(__name__)


def response_to(error: Exception, path: str, *, show: bool) -> Response:
    """The answer to a request that failed; unexpected errors get an id to look up.

    ``show`` adds the error's text, never its trace: for ``durable dev``.
    """
    if isinstance(error, BodyTooLarge):
        return Response(f"Payload too large: {error}", status=413)
    if isinstance(error, BodyTooSlow):
        return Response(f"Request timeout: {error}", status=408)
    if isinstance(error, NameRefused):
        return Response(f"Invalid name: {error}", status=400)
    if isinstance(error, (Unavailable, Overloaded)):
        return _busy(f"Service unavailable: {error}")
    if isinstance(error, DurableError) and error.retryable:
        return _busy(f"Service unavailable: {error}")
    if isinstance(error, Quarantined):
        # Not worth trying again soon: no Retry-After.
        return Response(f"Service unavailable: {error}", status=503)
    error_id = secrets.token_hex(8)
    log.error(
        "request failed", exc_info=error, extra={"error_id": error_id, "path": path}
    )
    text = f"Internal Server Error (error id {error_id})"
    if show:
        text += f"\n{type(error).__name__}: {error}"
    return Response(text, status=500)


def _busy(text: str) -> Response:
    return Response(text, status=503, headers={"Retry-After": "1"})
