"""``durable dev`` and ``durable serve``: a node, or several behind a supervisor."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from server import logs
from server.cli_database import CommandError
from server.config import load_project
from server.config_project import Configured
from server.setting_kinds import MAX_PROCESSES
from server.settings import Settings, unknown_settings
from server.user_module import (
    UserModule,
    UserModuleError,
    check_installation,
    load_user_module,
    reload_user_module,
)

if TYPE_CHECKING:
    from server.supervised import Supervised

log = logging.getLogger(__name__)

INTERRUPTED: Final = 130
_MODULES: Final = ("app.py", "main.py")


def add_commands(commands: Any) -> None:
    """Adds the commands to the parser's."""
    dev = commands.add_parser(
        "dev", help="run it here, with a Postgres that comes along"
    )
    dev.add_argument(
        "module",
        nargs="?",
        metavar="MODULE[:ATTR]",
        help="a module or .py file, and in it a fetch function, an aiohttp or an ASGI "
        "application (default: main of durable.toml, or app.py, or main.py)",
    )
    dev.set_defaults(command=_dev)

    dev.add_argument(
        "--no-reload",
        action="store_true",
        help="one process that doesn't watch the code",
    )

    serve = commands.add_parser("serve", help="run it in production")
    serve.add_argument(
        "module",
        nargs="?",
        metavar="MODULE[:ATTR]",
        help="as for `durable dev` (default: main of durable.toml)",
    )
    serve.add_argument(
        "--processes",
        type=_processes,
        metavar="N",
        help="run so many nodes, which share the port (DURABLE_PROCESSES)",
    )
    serve.set_defaults(command=_serve, wrong_usage=serve.error)
    for command in (dev, serve):
        command.add_argument("--host", help="address to listen on (DURABLE_HOST)")
        command.add_argument(
            "--port", type=_port, help="TCP port, 0 for a free one (DURABLE_PORT)"
        )
        # What a supervisor says to its nodes: the end of a socket pair.
        command.add_argument("--supervised", type=int, help=argparse.SUPPRESS)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a whole number from 0 to 65535")
    return int(text)


def _processes(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MAX_PROCESSES:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to {MAX_PROCESSES}"
        )
    return int(text)


# --- commands --------------------------------------------------------------------


def _dev(options: argparse.Namespace) -> int:
    starter = _starter(options)
    settings = _settings_of(options, dev=True)
    if options.module is None and settings.project.main is None:
        options.module = _default_module()
    if starter is not None:
        return _dev_node(settings, options.module, starter)
    # A node that is a part of something larger is left alone.
    alone = settings.role != "both" or settings.link_port or settings.link_advertise
    if not options.no_reload and not alone:
        return _dev_following(settings, options.module)
    module = _load(options.module, settings)
    return _run_loop(_run_dev(settings, module))


def _dev_following(settings: Settings, module: str | None) -> int:
    """Load nothing here: the nodes do, and say what is wrong with it."""
    from server.dev import serve_dev
    from server.supervisor import StartError

    try:
        served = asyncio.run(serve_dev(settings, module))
    except StartError as error:
        raise CommandError(error.said or str(error)) from error
    except OSError as error:
        raise _port_error(settings, error) from error
    return 0 if served else INTERRUPTED


def _dev_node(settings: Settings, target: str | None, starter: Supervised) -> int:
    """One of the nodes: it loads the code, and is told of a newer one."""
    if settings.log_level == "info":
        # Links come and go with every edit; who looks for that asks for more.
        logging.getLogger("server.link").setLevel(logging.WARNING)
    # The cache of bytecode tells versions apart by seconds; edits come faster.
    sys.dont_write_bytecode = True
    module = _load(target, settings)
    sys.dont_write_bytecode = False
    orders = starter.ask()
    if orders is None:
        return 0
    dsn = orders["database_url"]

    def load() -> UserModule:
        sys.dont_write_bytecode = True
        try:
            return _load(target, settings, again=True)
        finally:
            sys.dont_write_bytecode = False

    newer = load if settings.role == "front" else None
    with contextlib.ExitStack() as stack:
        if orders["embedded"]:
            from server.embedded_postgres import in_use

            # It drains before Postgres ends, even if who started both was killed.
            stack.enter_context(in_use(settings.data_dir))
        return _run_loop(_run_node(settings, dsn, module, starter, newer))


def _serve(options: argparse.Namespace) -> int:
    starter = _starter(options)
    settings = _settings_of(options, dev=False)
    if options.module is None and settings.project.main is None:
        options.wrong_usage("MODULE is missing, and durable.toml has no main")
    several = starter is None and settings.processes > 1
    if not several:
        module = _load(options.module, settings)
    if settings.database_url is None:
        raise CommandError(
            "`durable serve` needs DURABLE_DATABASE_URL, a Postgres of your own "
            "(15-18); `durable dev` brings one along"
        )
    if several:
        return _serve_several(settings, options.module)
    return _run_loop(_run_serve(settings, settings.database_url, module, starter))


def _serve_several(settings: Settings, module: str | None) -> int:
    """Load nothing here: the nodes do, and say what is wrong with it."""
    from server.several import serve_several
    from server.supervisor import StartError

    try:
        asyncio.run(serve_several(settings, module))
    except StartError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise _port_error(settings, error) from error
    return 0


# --- running a node --------------------------------------------------------------


def _starter(options: argparse.Namespace) -> Supervised | None:
    """The supervisor that started this process, if one did."""
    if options.supervised is None:
        return None
    from server.supervised import Supervised

    starter = Supervised(options.supervised)
    options.starter = starter  # for what `run` has to say
    return starter


def _settings_of(options: argparse.Namespace, *, dev: bool) -> Settings:
    """Command line, then environment, then durable.toml, then defaults."""
    check_installation()
    settings = Settings.from_environment(
        os.environ, dev=dev, project=load_project(Path.cwd(), dev=dev)
    )
    names = ("host", "port", "processes")
    given = {name: getattr(options, name, None) for name in names}
    settings = dataclasses.replace(
        settings, **{name: value for name, value in given.items() if value is not None}
    )
    logs.configure(settings.log_level, structured=not dev)
    if options.supervised is None:
        for warning in unknown_settings(os.environ):
            log.warning("%s (`durable settings` lists them)", warning)
    return settings


def _load(target: str | None, settings: Settings, *, again: bool = False) -> UserModule:
    """Finds out what can be wrong with the module before anything is started."""
    from durable import DurableObject
    from server.config_bindings import bindings_of

    load = reload_user_module if again else load_user_module
    if target is None:
        assert settings.project.main is not None  # the command has asked
        module = _load_configured(settings.project.main, load)
    else:
        module = load(target, DurableObject)
    bindings_of(settings.project, {cls.__name__: cls for cls in module.classes})
    return module


def _load_configured(
    main: Configured, load: Callable[[str, type], UserModule]
) -> UserModule:
    from durable import DurableObject

    try:
        return load(main.value, DurableObject)
    except UserModuleError as error:
        raise UserModuleError(f"{main.where}: {error}") from error


def _default_module() -> str:
    for name in _MODULES:
        if Path(name).is_file():
            return name
    raise CommandError(
        "no module given, and neither a `main` in durable.toml nor "
        f"{' or '.join(_MODULES)} here: `durable dev MODULE`, "
        "or `durable new NAME` to begin"
    )


def _run_loop(main: Coroutine[Any, Any, None]) -> int:
    import uvloop

    uvloop.run(main)
    return 0


async def _run_dev(settings: Settings, module: UserModule) -> None:
    """Brings the database along where none is given, and migrates it."""
    if settings.database_url is not None:
        await _run_migrated(settings, settings.database_url, module)
        return
    from server.embedded_postgres import data_location, embedded_postgres

    async with embedded_postgres(settings.data_dir) as dsn:
        log.info("data are in %s", data_location(settings.data_dir))
        await _run_migrated(settings, dsn, module)


async def _run_migrated(settings: Settings, dsn: str, module: UserModule) -> None:
    from server.classes import migrate_classes
    from server.migrate import check_schema, migrate

    await asyncio.to_thread(migrate, dsn, settings.shards)
    await check_schema(dsn, settings.shards)  # the number of shards stays as it was
    await migrate_classes(dsn, settings.project, log.info, dev=True)
    await _run_node(settings, dsn, module, None)


async def _run_serve(
    settings: Settings, dsn: str, module: UserModule, starter: Supervised | None
) -> None:
    from server.migrate import check_schema

    await check_schema(dsn, settings.shards)
    await _run_node(settings, dsn, module, starter)


async def _run_node(
    settings: Settings,
    dsn: str,
    module: UserModule,
    starter: Supervised | None,
    newer: Callable[[], UserModule] | None = None,
) -> None:
    from server.doors import open_door
    from server.node import run_node

    closed = settings.role != "worker" and open_door(
        settings.host,
        guarded=module.authorize is not None,
        open_to_all=settings.open_to_all,
    )
    if closed:
        raise CommandError(closed)
    try:
        settings = dataclasses.replace(settings, database_url=dsn)
        await run_node(settings, module, starter, newer)
    except OSError as error:
        raise _port_error(settings, error) from error


def _port_error(settings: Settings, error: OSError) -> Exception:
    """What is said when the public port is no good; any other error as it is."""
    if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
        return error
    return CommandError(
        f"can't listen on {settings.host}:{settings.port}: {error.strerror}; "
        f"choose another with --port or --host"
    )
