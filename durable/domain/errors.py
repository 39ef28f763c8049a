"""Every error of the system. The flags tell a caller what to do next.

Flags (as in workerd): ``retryable``: safe to try again with a new stub if the method is
idempotent; ``overloaded``: don't try again now (wins over retryable); ``remote``: the
exception was raised by the object's own code; ``durable_object_reset``: the activation
is gone, memory included, the next call finds what was committed.
"""

from __future__ import annotations


class DurableError(Exception):
    """Base of all errors of the runtime."""

    retryable = False
    overloaded = False
    remote = False
    durable_object_reset = False
    # The id of the object that a stub's call was for, as text.
    durable_object_id: str | None = None

    def is_about(self, object_id: object) -> None:
        """Say whose call failed, unless it is known already."""
        if self.durable_object_id is None:
            self.durable_object_id = str(object_id)


class ResetError(DurableError):
    """The activation ended while this call was in it."""

    retryable = True
    durable_object_reset = True


class CommitFailed(ResetError):
    """Postgres refused the commit: nothing of it was written."""


class CommitUnknown(ResetError):
    """The connection was lost in the commit: all was written, or nothing."""


class DataRefused(CommitFailed):
    """Postgres refused a value in this object's write set."""

    retryable = False


class Aborted(ResetError):
    """The object called ``ctx.abort``; the message is its reason."""

    retryable = False


class Moved(DurableError):
    """This worker does not own the object's shard."""

    retryable = True


class Unavailable(DurableError):
    """No owner could be reached in time, or this one is starting or stopping."""

    retryable = True


class LinkLost(Unavailable):
    """The owner's node was lost with the call in it: it may have run, or not."""


class Overloaded(DurableError):
    """Durable Object is overloaded. Too many requests queued."""

    overloaded = True


class StartFailed(DurableError):
    """The object's constructor or ``on_start`` raised, or took too long."""


class Quarantined(DurableError):
    """The object took three owners down, and isn't woken until it is released."""


class RemoteError(DurableError):
    """An exception of another object's code; ``name`` is its class."""

    remote = True

    def __init__(self, message: str, *, name: str = "Exception") -> None:
        super().__init__(message)
        self.name = name


class ValueRefused(DurableError, TypeError):
    """A value that can't be stored or sent; the message has the path to it."""


class ValueTooLarge(ValueRefused):
    """A value over ``DURABLE_MAX_VALUE_BYTES``: nothing was written."""


class NestedTransaction(DurableError):
    """A transaction of this object is open already."""


class TransactionEnded(DurableError):
    """The transaction that this code is in was rolled back, or is over."""


class Deadlock(DurableError):
    """The object waits for this very call, which can't enter it meanwhile."""


class SqlError(DurableError):
    """A statement of an agent failed; nothing of its transaction was written.

    Attributes: ``query``, the statement; ``position``, the character in it where
    Postgres or the guard stopped (1-based, None if unknown); ``sqlstate``.
    """

    def __init__(
        self,
        message: str,
        *,
        query: str,
        position: int | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message)
        self.query = query
        self.position = position
        self.sqlstate = sqlstate


class SettingsError(DurableError):
    """A setting is wrong; the message names it and says what is allowed."""


class SchemaMismatch(DurableError):
    """The database's schema or shard count is not this node's; says what to run."""
