"""The frames of the agent protocol, as text. Pure."""

from __future__ import annotations

from typing import Any

import orjson

STATE = "cf_agent_state"
STATE_ERROR = "cf_agent_state_error"
IDENTITY = "cf_agent_identity"
MCP_SERVERS = "cf_agent_mcp_servers"
RPC = "rpc"

# No MCP servers yet: clients wait for the frame all the same.
NO_MCP_SERVERS = orjson.dumps(
    {
        "type": MCP_SERVERS,
        "mcp": {"prompts": [], "resources": [], "servers": {}, "tools": []},
    }
)


def identity(name: str, agent: str, *, state_follows: bool) -> bytes:
    """Who the client talks to. ``stateFollows`` only if a state frame follows."""
    frame: dict[str, Any] = {"type": IDENTITY, "name": name, "agent": agent}
    if state_follows:
        frame["stateFollows"] = True
    return orjson.dumps(frame)


def state(raw: bytes) -> bytes:
    """The agent's state, which is JSON already."""
    return b'{"type":"cf_agent_state","state":' + raw + b"}"


def state_error(error: str) -> bytes:
    """The client's state was refused."""
    return orjson.dumps({"type": STATE_ERROR, "error": error})


def rpc_result(call_id: str, raw: bytes | None, *, done: bool) -> bytes:
    """A result, or a chunk of one; ``raw`` is JSON, None omits the key (undefined)."""
    head = b'{"type":"rpc","id":' + orjson.dumps(call_id) + b',"success":true,"done":'
    head += b"true" if done else b"false"
    return head + (b"}" if raw is None else b',"result":' + raw + b"}")


def rpc_error(call_id: str, error: str) -> bytes:
    """A call failed; such a frame has no ``done``."""
    frame = {"type": RPC, "id": call_id, "success": False, "error": error}
    try:
        return orjson.dumps(frame)
    except orjson.JSONEncodeError:
        # A lone surrogate in an exception's message must not hide the error.
        frame["error"] = error.encode("utf-8", "replace").decode()
        return orjson.dumps(frame)


def parse(message: str) -> dict[str, Any] | None:
    """A JSON object, or None: everything else belongs to the application."""
    if "{" not in message[:16]:
        return None
    try:
        frame = orjson.loads(message)
    except ValueError:
        return None
    return frame if type(frame) is dict else None


def is_call(frame: dict[str, Any]) -> bool:
    """Whether this is a well-formed call; a malformed one is the application's."""
    return (
        frame.get("type") == RPC
        and type(frame.get("id")) is str
        and type(frame.get("method")) is str
        and type(frame.get("args")) is list
    )


def setup_error(error: str) -> bytes:
    """``on_connect`` raised; the socket is closed after this."""
    return orjson.dumps({"error": error.encode("utf-8", "replace").decode()})
