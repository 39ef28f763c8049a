"""Durable objects on your own Postgres: a class, a name, one live instance."""

from durable.domain.alarms import AlarmInfo
from durable.domain.clock import now
from durable.domain.errors import (
    Aborted,
    Deadlock,
    DurableError,
    NestedTransaction,
    Overloaded,
    Quarantined,
    RemoteError,
    ResetError,
    SqlError,
    StartFailed,
    TransactionEnded,
    Unavailable,
    ValueRefused,
    ValueTooLarge,
)
from durable.domain.ids import DurableObjectId, NameRefused
from durable.domain.ports import Frame, KeyRange
from durable.domain.sql_result import SqlResult
from durable.objects import json_text
from durable.objects.awaiting import must_await
from durable.objects.durable_object import DurableObject
from durable.objects.env import Env, current_env
from durable.objects.http import (
    IDENTITY_HEADER,
    BodyTooLarge,
    BodyTooSlow,
    Request,
    Response,
    aclose,
    identity_of,
)
from durable.objects.namespace import DurableObjectNamespace, DurableObjectStub, wake
from durable.objects.state import DurableObjectState
from durable.objects.storage import DurableObjectStorage, Space
from durable.objects.streams import is_stream
from durable.objects.websocket import WebSocket

__all__ = [
    "IDENTITY_HEADER",
    "Aborted",
    "AlarmInfo",
    "BodyTooLarge",
    "BodyTooSlow",
    "Deadlock",
    "DurableError",
    "DurableObject",
    "DurableObjectId",
    "DurableObjectNamespace",
    "DurableObjectState",
    "DurableObjectStorage",
    "DurableObjectStub",
    "Env",
    "Frame",
    "KeyRange",
    "NameRefused",
    "NestedTransaction",
    "Overloaded",
    "Quarantined",
    "RemoteError",
    "Request",
    "ResetError",
    "Response",
    "Space",
    "SqlError",
    "SqlResult",
    "StartFailed",
    "TransactionEnded",
    "Unavailable",
    "ValueRefused",
    "ValueTooLarge",
    "WebSocket",
    "aclose",
    "current_env",
    "identity_of",
    "is_stream",
    "json_text",
    "must_await",
    "now",
    "wake",
]
