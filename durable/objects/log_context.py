"""What a log line says of where it comes from: object, epoch, request."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING

from durable.objects.activation import current_activation

if TYPE_CHECKING:
    from durable.objects.http import Request

# What a proxy in front calls the request that is answered.
REQUEST_ID_HEADER = "X-Request-Id"
_request_id: ContextVar[str | None] = ContextVar("_request_id", default=None)
_ID = re.compile(r"[\w.:=+/-]{1,128}")


def note_request(request: Request) -> None:
    """Let the log lines of this task tell which request it is, if it says so."""
    said = request.headers.get(REQUEST_ID_HEADER)
    # It is the client's text: only what can't be taken for something else. And a
    # connection's task goes on with its next request.
    _request_id.set(said if said is not None and _ID.fullmatch(said) else None)


def log_context() -> dict[str, str | int]:
    """``object``, ``name``, ``epoch`` and ``request_id``, as far as there are any."""
    found: dict[str, str | int] = {}
    activation = current_activation.get()
    if activation is not None:
        found["object"] = str(activation.id)
        if activation.id.name is not None:
            found["name"] = activation.id.name
        found["epoch"] = activation.claim.epoch
    request_id = _request_id.get()
    if request_id is not None:
        found["request_id"] = request_id
    return found
