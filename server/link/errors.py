"""Errors over the link: those of the runtime as themselves, others as RemoteError."""

from __future__ import annotations

from durable import BodyTooLarge, BodyTooSlow, DurableError, RemoteError, SqlError
from durable.domain import errors
from server.link.frames import Fault

_KINDS: dict[str, type[DurableError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type)
    and issubclass(kind, DurableError)
    # These have more than a message.
    and kind not in (RemoteError, SqlError)
} | {kind.__name__: kind for kind in (BodyTooLarge, BodyTooSlow)}


def fault_of(error: BaseException) -> Fault:
    """An error as it is sent. No trace goes along."""
    name = type(error).__name__
    if not isinstance(error, DurableError):
        return Fault(RemoteError.__name__, str(error), name)
    about = error.durable_object_id
    if isinstance(error, SqlError):
        place = (error.query, error.position, error.sqlstate)
        return Fault(name, str(error), "", about, *place)
    if name in _KINDS:
        return Fault(name, str(error), "", about)
    if isinstance(error, RemoteError):
        name = error.name
    return Fault(RemoteError.__name__, str(error), name, about)


def error_of(fault: Fault) -> DurableError:
    """The error that was sent."""
    error: DurableError
    if fault.kind == SqlError.__name__:
        error = SqlError(
            fault.message,
            query=fault.query,
            position=fault.position,
            sqlstate=fault.sqlstate,
        )
    elif fault.kind in _KINDS:
        error = _KINDS[fault.kind](fault.message)
    else:
        error = RemoteError(fault.message, name=fault.name)
    error.durable_object_id = fault.object
    return error
