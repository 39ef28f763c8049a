"""What an exchange's answer means for the transaction: done, refused, or unknown."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.pq import DiagnosticField

from durable.domain.errors import (
    CommitFailed,
    CommitUnknown,
    DataRefused,
    DurableError,
    SqlError,
    Unavailable,
)
from durable.store.sql_errors import error_of, sent_position, sql_error, sqlstate
from durable.store.sql_guard import Guarded
from durable.store.sql_session import Answer, Session

STALE = "DF001"
# Classes of SQLSTATE that say: this data, not this moment, is the problem.
_DATA_CLASSES = ("22", "23", "54")
_NO_SUCH_ROLE = frozenset({"22023", "42501", "42704"})


class RoleMissingError(Exception):
    """The agent's role isn't there, or this backend doesn't know that it is ours."""

    def __init__(self, message: str, query: str, code: str) -> None:
        super().__init__(message)
        self.query = query
        self.code = code


@dataclass(frozen=True, slots=True)
class Layout:
    """Which steps of an exchange are what: opening, statements, closing.

    ``commits``: the last step is COMMIT. ``makes``: the opening makes the schema.
    """

    opening: int
    statements: int
    steps: int
    commits: bool
    makes: bool = False


async def settle(
    session: Session, answer: Answer, layout: Layout, guarded: Guarded | None
) -> None:
    """Return if every step was executed; else end the transaction and say what failed.

    A statement that fails inside a longer transaction is left to its savepoint.

    Raises:
        SqlError: a statement, or a constraint at COMMIT.
        CommitFailed: the claim is stale, or the write set was refused.
        CommitUnknown: nobody knows.
        Unavailable: the connection was lost, and nothing changed.
        RoleMissingError: as it says.
    """
    last = layout.steps - 1
    if answer.done(last) and (
        not layout.commits or answer.results[last].command_status == b"COMMIT"
    ):
        return
    if answer.lost is not None:
        raise _lost(session, answer, layout, guarded)
    if answer.failed is None:
        session.broken = True
        raise CommitFailed("Postgres rolled the transaction back")
    in_statement = layout.opening <= answer.failed < layout.opening + layout.statements
    if layout.commits or not in_statement:
        await session.roll_back()
    raise _refused(answer, layout, guarded)


def _refused(
    answer: Answer, layout: Layout, guarded: Guarded | None
) -> DurableError | RoleMissingError:
    failed = answer.failed or 0
    result = answer.results[failed]
    code = sqlstate(result) or ""
    field = result.error_field(DiagnosticField.MESSAGE_PRIMARY)
    message = (field or b"").decode(errors="replace")
    if code == STALE:
        return CommitFailed(message)
    query = guarded.query if guarded is not None else "DROP SCHEMA"
    if failed < layout.opening:
        if code in _NO_SUCH_ROLE:
            return RoleMissingError(message, query, code)
        return no_way_in(message, query, code)
    if guarded is not None and failed < layout.opening + layout.statements:
        sent = sent_position(result)
        statement = guarded.statements[failed - layout.opening]
        position = None if sent is None else statement.position(sent)
        return error_of(result, query, position)
    if failed < layout.steps - 1:
        kind = DataRefused if code[:2] in _DATA_CLASSES else CommitFailed
        return kind(f"Postgres refused the commit ({code}): {message}")
    if code.startswith(("08", "57")):
        return CommitUnknown(f"Postgres was interrupted in a commit: {message}")
    return error_of(result, query, None)


def no_way_in(message: str, query: str, code: str) -> SqlError:
    """What an author is told when the schema can't be used at all."""
    return sql_error(
        f"the agent's schema can't be made or entered: {message}",
        query,
        sqlstate=code,
        hint="docs/sql.md says which rights the database role needs",
    )


def _lost(
    session: Session, answer: Answer, layout: Layout, guarded: Guarded | None
) -> DurableError:
    reason = f"the connection to Postgres was lost: {answer.lost}"
    if session.overdue:
        reason = "the transaction took too long; its connection was cut"
    certain = answer.failed is not None and answer.failed < layout.steps - 1
    read_only = guarded is not None and guarded.read_only
    alone = layout.steps == layout.opening + layout.statements + 1
    if not layout.commits or certain or (read_only and alone and not layout.makes):
        return Unavailable(reason)
    return CommitUnknown(reason)
