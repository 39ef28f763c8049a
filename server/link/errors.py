"""Errors over the link: those of the runtime as themselves, others as RemoteError."""

from __future__ import annotations

from durable import BodyTooLarge, DurableError, RemoteError, SqlError
from durable.domain import errors
from server.link.frames import Fault

_KINDS: dict[str, type[DurableError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type)
    and issubclass(kind, DurableError)
    # These take more than a message.
    and kind not in (RemoteError, SqlError)
} | {BodyTooLarge.__name__: BodyTooLarge}


def fault_of(error: BaseException) -> Fault:
    """An error as it is sent. No trace goes along."""
    name = type(error).__name__
    if name in _KINDS and isinstance(error, DurableError):
        return Fault(name, str(error), "")
    if isinstance(error, RemoteError):
        name = error.name
    return Fault(RemoteError.__name__, str(error), name)


def error_of(fault: Fault) -> DurableError:
    """The error that was sent."""
    kind = _KINDS.get(fault.kind)
    if kind is None:
        return RemoteError(fault.message, name=fault.name)
    return kind(fault.message)
