"""Per-agent SQL: a schema and a role for each agent that uses it, and one login.

What a role of this database may do beyond its own schema is narrowed where the
migrating role may do so (a superuser); otherwise the parser is the only wall for those
functions, and the log says so.

Revision ID: 0002
"""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

log = logging.getLogger("durable.migrations")


def upgrade() -> None:
    """Add the functions; close to PUBLIC what an agent's role must not reach."""
    script = Path(__file__).with_name("0002_agent_sql.sql").read_text(encoding="utf-8")
    connection = op.get_bind()
    connection.exec_driver_sql(script)
    if not connection.exec_driver_sql("SELECT durable.harden_agent_sql()").scalar_one():
        log.warning(
            "the migrating role is no superuser: set_config, advisory locks, "
            "pg_notify, pg_sleep, large objects and the languages sql and plpgsql stay "
            "open to PUBLIC; see docs/sql.md"
        )


def downgrade() -> None:
    """Remove the functions and open again what was closed. Agents' schemas stay."""
    connection = op.get_bind()
    connection.exec_driver_sql("SELECT durable.soften_agent_sql()")
    for function in (
        "install_agent_sql(text)",
        "open_agent_schema(integer, bigint, uuid, uuid, bigint, text)",
        "drop_agent_schema(integer, bigint, uuid, uuid)",
        "own_agent_schema(text, name)",
        "harden_agent_sql()",
        "soften_agent_sql()",
        "agent_sql_reserved()",
        "agent_sql_login()",
        "agent_role_prefix()",
    ):
        connection.exec_driver_sql(f"DROP FUNCTION durable.{function}")
