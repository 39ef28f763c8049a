"""Errors over the link: those of the runtime as themselves, others as RemoteError."""

from __future__ import annotations

from durable import DurableError, RemoteError, SqlError
from durable.domain import errors
from server.link.frames import Failed

_KINDS: dict[str, type[DurableError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type)
    and issubclass(kind, DurableError)
    and kind not in (RemoteError, SqlError)
}


def failed(id: int, error: BaseException) -> Failed:
    """An error as a frame. No trace goes along."""
    name = type(error).__name__
    if name in _KINDS and isinstance(error, DurableError):
        return Failed(id, name, str(error), "")
    if isinstance(error, RemoteError):
        name = error.name
    return Failed(id, RemoteError.__name__, str(error), name)


def raised(frame: Failed) -> DurableError:
    """The error that a frame tells of."""
    kind = _KINDS.get(frame.kind)
    if kind is None:
        return RemoteError(frame.message, name=frame.name)
    return kind(frame.message)
