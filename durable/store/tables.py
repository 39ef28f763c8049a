"""The one definition of the tables (schema ``durable``); Alembic compares with it.

Every key of an object's rows leads with ``shard``, so the tables can be partitioned
or distributed by it. There are no tables for state, schedules, queues or chat: those
are ``kv`` entries in reserved spaces.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, UUID

SCHEMA = "durable"

metadata = MetaData(schema=SCHEMA)

cluster = Table(
    "cluster",
    metadata,
    # One row: what was fixed when the database was initialised.
    Column("one", Boolean, primary_key=True, server_default="true"),
    Column("shards", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), server_default=func.now()),
    # What nodes on one machine know each other by, unless the operator gives another.
    Column("link_secret", Text, nullable=False),
    # Where a test kit has stopped the clock.
    Column("test_time", DateTime(timezone=True)),
    CheckConstraint("one", name="cluster_one_row"),
)

namespace = Table(
    "namespace",
    metadata,
    # The tag leads every object id of the namespace and is never assigned again.
    Column("tag", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), server_default=func.now()),
    # The configuration's `name`: each app has classes of its own.
    Column("app", Text, nullable=False, server_default="main"),
    # When it was deleted: the name is free, its rows are going in batches.
    Column("doomed_at", DateTime(timezone=True)),
    Index(
        "namespace_of_app",
        "app",
        "name",
        unique=True,
        postgresql_where=text("doomed_at IS NULL"),
    ),
)

class_migration = Table(
    "class_migration",
    metadata,
    # What was applied, in the order of ``number``, and as what it was written.
    Column("app", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("steps", JSON, nullable=False),
    Column(
        "applied_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
    ),
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
    # The tags of its classes; NULL: it didn't say.
    Column("serves", ARRAY(BigInteger)),
    # Why it may claim no more: a class of its was renamed or deleted meanwhile.
    Column("stale", Text),
    # Its share of the shards, relative to others'.
    Column("weight", REAL, nullable=False, server_default="1"),
    Column("role", Text, nullable=False, server_default="both"),
    # host:port of its link; NULL: it has none.
    Column("link_address", Text),
    Column("labels", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    CheckConstraint("role IN ('front', 'worker', 'both')", name="worker_role"),
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
    Index(
        "object_of_class",
        "tag",
        text("COALESCE(name COLLATE \"C\", ''::text)"),
        "id",
    ),
    Index(
        "object_with_schema",
        "tag",
        postgresql_where=text("sql_schema IS NOT NULL"),
    ),
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

trial = Table(
    "trial",
    metadata,
    # Objects that were woken where an owner fell, and have ended no event since.
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("object", UUID, primary_key=True),
    Column("wakes", Integer, nullable=False, server_default="1"),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
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
    # For looking across agents at what they planned.
    Index(
        "kv_of_work",
        "space",
        "shard",
        "object",
        postgresql_where=text("space IN ('schedules', 'work-queue', 'dead-letters')"),
    ),
    postgresql_with={"fillfactor": 85},
)
