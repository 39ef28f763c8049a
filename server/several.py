"""``durable serve --processes N``: nodes of one machine on one port."""

from __future__ import annotations

from server.child import Spawn, reserve
from server.settings import Settings
from server.supervisor import GRACE_SECONDS, Limits, Slot, Supervisor

# What a node may take to end, in drains: requests twice, what else runs once more.
DRAINS = 3


async def serve_several(settings: Settings, module: str | None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        OSError: the public port can't be had.
        StartError: a node can't be started; the others have been drained.
    """
    limits = patience(settings)
    if settings.role == "worker":
        slots = _slots(settings, module, 0, limits)
        await Supervisor(slots, say).run()
        return
    with reserve(settings.host, settings.port) as kept:
        slots = _slots(settings, module, kept.getsockname()[1], limits)
        await Supervisor(slots, say).run()


def say(text: str) -> None:
    """The one line on standard output: all serve."""
    print(text, flush=True)  # noqa: T201


def patience(settings: Settings) -> Limits:
    """How long nodes with these settings may take to end."""
    return Limits(patience=DRAINS * settings.drain_seconds + GRACE_SECONDS)


def _slots(
    settings: Settings, module: str | None, port: int, limits: Limits
) -> list[Slot]:
    target = () if module is None else (module,)
    options = ("--host", settings.host, "--port", str(port))
    number = settings.processes
    return [
        Slot(
            Spawn(
                name=f"node {place + 1} of {number}",
                arguments=("serve", *target, *options),
                variables=own_ports(settings, place),
            ),
            limits,
        )
        for place in range(number)
    ]


def own_ports(settings: Settings, place: int) -> dict[str, str]:
    """Of a port that each node needs for itself: the first one's, and those after it.

    0, a free one, stays 0.
    """
    own: dict[str, str] = {}
    if settings.link_port:
        own["DURABLE_LINK_PORT"] = str(settings.link_port + place)
    if settings.link_advertise:
        host, _, port = settings.link_advertise.rpartition(":")
        own["DURABLE_LINK_ADVERTISE"] = f"{host}:{int(port) + place}"
    if settings.admin_port:
        own["DURABLE_ADMIN_PORT"] = str(settings.admin_port + place)
    return own
