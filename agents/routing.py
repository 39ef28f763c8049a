"""URLs and names → agents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from agents.agent import Agent
from agents.context import current
from agents.naming import kebab_case
from durable import (
    DurableObjectNamespace,
    NameRefused,
    Request,
    Response,
    current_env,
    must_await,
    wake,
)

A = TypeVar("A")

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """Which agent a request is for, as the before-hooks are told."""

    class_name: str
    name: str


Hook = Callable[[Request, RouteInfo], Any]

# Under this name `env.cache` has the module's `authorize`.
AUTHORIZE = "authorize"


async def route_agent_request(
    request: Request,
    env: Any,
    *,
    prefix: str = "agents",
    cors: bool | Mapping[str, str] = False,
    on_before_connect: Hook | None = None,
    on_before_request: Hook | None = None,
    authorize: Hook | None = None,
    props: Any = None,
) -> Response | None:
    """Send ``/{prefix}/{agent}/{name}[/…]`` to its agent; None for any other URL.

    The agent segment is the kebab-case of the binding's name (the class name, unless
    durable.toml says otherwise); the name is the raw segment, not percent-decoded.
    Hooks (plain or async) may return a Response, which is the answer, or a Request,
    which is sent instead. ``authorize``, by default that of the module which is served,
    is asked before them: False or None is answered with 403, a Response is the answer,
    True lets in, and so does any other JSON, which is then ``request.identity`` and
    ``connection.identity``. ``cors=True`` lets every origin in; a mapping gives the
    headers. ``props`` reach ``on_start``.
    """
    route = _match(request.path, prefix)
    if route is None:
        return None
    headers = CORS_HEADERS if cors is True else dict(cors or {})
    if headers and request.method == "OPTIONS" and not request.is_upgrade:
        return Response(None, headers=headers)
    hook = on_before_connect if request.is_upgrade else on_before_request
    hooks = [_asking(authorize or env.cache.get(AUTHORIZE)), hook]
    response = await _routed(request, env, route, hooks, props)
    if response.status != 101:
        for name, value in headers.items():
            response.headers[name] = value
    return response


async def _routed(
    request: Request,
    env: Any,
    route: tuple[str, str],
    hooks: Iterable[Hook | None],
    props: Any,
) -> Response:
    namespace = agent_namespaces(env).get(route[0])
    if namespace is None:
        return Response("Invalid request", status=400)
    try:
        stub = namespace.get_by_name(route[1], props=props)
    except NameRefused as error:
        return Response(f"Invalid name: {error}", status=400)
    for hook in hooks:
        if hook is None:
            continue
        answer = hook(request, RouteInfo(namespace.name, route[1]))
        if must_await(answer):
            answer = await answer
        if isinstance(answer, Response):
            return answer
        if isinstance(answer, Request):
            answer.socket_port = request.socket_port
            request = answer
    return cast("Response", await stub.fetch(request))


def _asking(authorize: Hook | None) -> Hook | None:
    """``authorize`` as a before-hook: its verdict becomes an answer, or an identity."""
    if authorize is None:
        return None

    async def ask(request: Request, info: RouteInfo) -> Response | None:
        verdict = authorize(request, info)
        if must_await(verdict):
            verdict = await verdict
        if isinstance(verdict, Response):
            return verdict
        if verdict is None or verdict is False:
            return Response("Forbidden", status=403)
        if verdict is not True:
            request.identify(verdict)
        return None

    return ask


def _match(path: str, prefix: str) -> tuple[str, str] | None:
    segments = [segment for segment in path.split("/") if segment]
    wanted = [segment for segment in prefix.split("/") if segment]
    depth = len(wanted)
    if segments[:depth] != wanted or len(segments) < depth + 2:
        return None
    return segments[depth], segments[depth + 1]


def agent_namespaces(env: Any) -> dict[str, DurableObjectNamespace]:
    """URL segment → namespace, for all that is bound in ``env``."""
    by_segment: dict[str, DurableObjectNamespace] | None = env.cache.get("by_segment")
    if by_segment is None:
        by_segment = {kebab_case(n.name): n for n in env.namespaces.values()}
        env.cache["by_segment"] = by_segment
    return by_segment


async def get_agent_by_name(
    agent: type[A] | DurableObjectNamespace,
    name: str,
    *,
    props: Any = None,
    env: Any = None,
) -> A:
    """A stub of the agent with this name, awake: its ``on_start`` has ended.

    It is typed as the agent itself, so editors know its methods; every call of one is
    awaited, as it may cross the network. ``agent`` is the class, or a namespace of
    ``env``; outside of agents and request handlers, pass ``env`` with a class.

    Raises:
        NameRefused: no name that an agent could have.
        LookupError: the class isn't bound here.
    """
    namespace = agent if isinstance(agent, DurableObjectNamespace) else None
    if namespace is None:
        namespace = _bound(cast("type[Any]", agent), env)
    stub = namespace.get_by_name(name, props=props)
    await wake(stub)
    return cast("A", stub)


def _bound(cls: type[Any], env: Any) -> DurableObjectNamespace:
    here = current.get().agent
    env = env or (here.env if isinstance(here, Agent) else current_env.get())
    if env is None:
        raise LookupError(
            f"get_agent_by_name({cls.__name__}, …) is called outside of agents and "
            "request handlers: pass env=…"
        )
    for namespace in env.namespaces.values():
        if namespace.cls is cls:
            return cast("DurableObjectNamespace", namespace)
    raise LookupError(f"{cls.__name__} is not bound: {sorted(env.namespaces)} are")
