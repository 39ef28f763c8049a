"""The one definition of the tables (schema ``durable``); Alembic compares with it.

Every key of an object's rows leads with ``shard``, so the tables can be partitioned
or distributed by it. There are no tables for state, schedules, queues or chat: those
are ``kv`` entries in reserved spaces.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import JSON, UUID

SCHEMA = "durable"

metadata = MetaData(schema=SCHEMA)

cluster = Table(
    "cluster",
    metadata,
    # One row: what was fixed when the database was initialised.
    Column("one", Boolean, primary_key=True, server_default="true"),
    Column("shards", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), server_default=func.now()),
    CheckConstraint("one", name="cluster_one_row"),
)

namespace = Table(
    "namespace",
    metadata,
    # The tag leads every object id of the namespace and is never assigned again.
    Column("tag", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", DateTime(timezone=True), server_default=func.now()),
)

worker = Table(
    "worker",
    metadata,
    # For placement and operators only, never for safety.
    Column("id", UUID, primary_key=True),
    Column("address", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("draining", Boolean, nullable=False, server_default="false"),
    Column("started_at", DateTime(timezone=True), server_default=func.now()),
    Column("beat", DateTime(timezone=True), server_default=func.now()),
)

shard = Table(
    "shard",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("claim_id", UUID),
    # NULL: released by its owner, who has flushed and stopped.
    Column("owner", UUID),
    Column("changed_at", DateTime(timezone=True), server_default=func.now()),
    postgresql_with={"fillfactor": 50},
)

object_ = Table(
    "object",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("id", UUID, primary_key=True),
    Column("tag", BigInteger, nullable=False),
    Column("name", Text),
    # The object's own Postgres schema, once it has issued SQL.
    Column("sql_schema", Text),
    Column("created_at", DateTime(timezone=True), server_default=func.now()),
)

alarm = Table(
    "alarm",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("object", UUID, primary_key=True),
    Column("due", DateTime(timezone=True), nullable=False),
    # Runs that the object's own code failed; they bound the retries.
    Column("failures", Integer, nullable=False, server_default="0"),
    # Runs begun since it was set, written before each: they bound what takes workers
    # down.
    Column("attempt", Integer, nullable=False, server_default="0"),
    Index("alarm_due", "shard", "due"),
    postgresql_with={"fillfactor": 80},
)

kv = Table(
    "kv",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("object", UUID, primary_key=True),
    # 'user' is the object's own storage; other spaces are reserved (agent state …).
    Column("space", Text(collation="C"), primary_key=True),
    Column("key", Text(collation="C"), primary_key=True),
    # json, not jsonb: keeps the order of keys and costs less to write.
    Column("value", JSON),
    Column("blob", LargeBinary),
    CheckConstraint("num_nonnulls(value, blob) = 1", name="kv_one_value"),
    postgresql_with={"fillfactor": 85},
)
