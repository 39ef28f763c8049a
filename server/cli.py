"""The command line: ``durable dev``, ``serve``, ``migrate``, ``new``, ``settings``.

Commands on what a database holds are in ``cli_classes``, ``cli_doctor``,
``cli_fleet``, ``cli_inspect``, ``cli_quarantine``, ``cli_sql`` and ``cli_work``.

Exit codes: 0 done, 1 it can't be done (one message on standard error says why),
2 wrong usage, 130 interrupted before it served.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import errno
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from server import (
    cli_classes,
    cli_doctor,
    cli_fleet,
    cli_inspect,
    cli_quarantine,
    cli_sql,
    cli_work,
    logs,
)
from server.cli_database import CommandError
from server.cli_new import NewProjectError, new_project
from server.config import load_project
from server.config_project import Configured
from server.config_reader import ConfigError
from server.settings import Settings, SettingsError, describe, unknown_settings
from server.user_module import (
    DISTRIBUTION,
    UserModule,
    UserModuleError,
    check_installation,
    load_user_module,
)

log = logging.getLogger(__name__)

_INTERRUPTED: Final = 130
_MODULES: Final = ("app.py", "main.py")


class CliError(Exception):
    """A command can't be done; the text says why and what to do."""


def run(arguments: list[str]) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except _expected_errors() as error:
        print(f"durable: {logs.redact(str(error))}", file=sys.stderr)
        return 1


def _expected_errors() -> tuple[type[Exception], ...]:
    """Errors that are for the user; every other one is a defect and shows its trace."""
    expected = [CliError, CommandError, ConfigError, NewProjectError]
    expected += [SettingsError, UserModuleError]
    # Loaded only by commands that can raise them.
    for module, name in (
        ("server.classes", "ClassesError"),
        ("server.migrate", "SchemaError"),
        ("server.postgres_files", "EmbeddedPostgresError"),
    ):
        if module in sys.modules:
            expected.append(getattr(sys.modules[module], name))
    return tuple(expected)


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "from its sources"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="durable",
        description="Durable Objects and agents in Python, on Postgres.",
    )
    parser.add_argument(
        "--version", action="version", version=f"{DISTRIBUTION} {_version()}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_node_commands(commands)
    migrate = commands.add_parser(
        "migrate",
        help="bring the database's schema up to date, and apply class migrations",
    )
    migrate.add_argument(
        "--dry-run",
        action="store_true",
        help="say what the class migrations would do, change nothing",
    )
    migrate.set_defaults(command=_migrate)

    new = commands.add_parser("new", help="make a new project: agent, page and test")
    new.add_argument("name", metavar="NAME")
    new.set_defaults(command=_new)

    settings = commands.add_parser("settings", help="list the settings (DURABLE_*)")
    settings.set_defaults(command=_settings)
    cli_classes.add_commands(commands)
    cli_doctor.add_commands(commands)
    cli_fleet.add_commands(commands)
    agents = cli_inspect.add_commands(commands)
    cli_sql.add_commands(commands, agents)
    cli_quarantine.add_commands(agents)
    cli_work.add_commands(commands)
    return parser


def _add_node_commands(commands: Any) -> None:
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

    serve = commands.add_parser("serve", help="run it in production")
    serve.add_argument(
        "module",
        nargs="?",
        metavar="MODULE[:ATTR]",
        help="as for `durable dev` (default: main of durable.toml)",
    )
    serve.set_defaults(command=_serve, wrong_usage=serve.error)
    for command in (dev, serve):
        command.add_argument("--host", help="address to listen on (DURABLE_HOST)")
        command.add_argument(
            "--port", type=_port, help="TCP port, 0 for a free one (DURABLE_PORT)"
        )


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a whole number from 0 to 65535")
    return int(text)


# --- commands --------------------------------------------------------------------


def _dev(options: argparse.Namespace) -> int:
    settings = _settings_of(options, dev=True)
    if options.module is None and settings.project.main is None:
        options.module = _default_module()
    module = _load(options.module, settings)
    return _run_loop(_run_dev(settings, module))


def _serve(options: argparse.Namespace) -> int:
    settings = _settings_of(options, dev=False)
    if options.module is None and settings.project.main is None:
        options.wrong_usage("MODULE is missing, and durable.toml has no main")
    module = _load(options.module, settings)
    if settings.database_url is None:
        raise CliError(
            "`durable serve` needs DURABLE_DATABASE_URL, a Postgres of your own "
            "(15-18); `durable dev` brings one along"
        )
    return _run_loop(_run_serve(settings, settings.database_url, module))


def _migrate(options: argparse.Namespace) -> int:
    settings = Settings.from_environment(os.environ, project=load_project(Path.cwd()))
    if settings.database_url is None:
        raise CliError(
            "`durable migrate` needs DURABLE_DATABASE_URL; the Postgres of "
            "`durable dev` is migrated by `durable dev` itself"
        )
    from server.classes import migrate_classes
    from server.migrate import check_schema, migrate

    dsn, project = settings.database_url, settings.project
    logs.configure(settings.log_level, structured=False)
    if options.dry_run:
        asyncio.run(check_schema(dsn, None))
        asyncio.run(migrate_classes(dsn, project, cli_classes.would, dry_run=True))
        return 0
    revision = migrate(dsn, settings.shards)
    print(f"The schema is up to date (revision {revision}).", flush=True)
    asyncio.run(migrate_classes(dsn, project, print))
    return 0


def _new(options: argparse.Namespace) -> int:
    directory = new_project(options.name, Path.cwd())
    print(
        f"Made {directory.name}/. Run it:\n\n"
        f"  cd {directory.name}\n  durable dev\n\nand open http://127.0.0.1:8787"
    )
    return 0


def _settings(_: argparse.Namespace) -> int:
    print(describe())
    return 0


# --- running a node --------------------------------------------------------------


def _settings_of(options: argparse.Namespace, *, dev: bool) -> Settings:
    """Command line, then environment, then durable.toml, then defaults."""
    check_installation()
    settings = Settings.from_environment(
        os.environ, dev=dev, project=load_project(Path.cwd(), dev=dev)
    )
    given = {"host": options.host, "port": options.port}
    settings = dataclasses.replace(
        settings, **{name: value for name, value in given.items() if value is not None}
    )
    logs.configure(settings.log_level, structured=not dev)
    for warning in unknown_settings(os.environ):
        log.warning("%s (`durable settings` lists them)", warning)
    return settings


def _load(target: str | None, settings: Settings) -> UserModule:
    """Finds out what can be wrong with the module before anything is started."""
    from durable import DurableObject
    from server.config_bindings import bindings_of

    if target is None:
        assert settings.project.main is not None  # the command has asked
        module = _load_configured(settings.project.main, DurableObject)
    else:
        module = load_user_module(target, DurableObject)
    bindings_of(settings.project, {cls.__name__: cls for cls in module.classes})
    return module


def _load_configured(main: Configured, base: type) -> UserModule:
    try:
        return load_user_module(main.value, base)
    except UserModuleError as error:
        raise UserModuleError(f"{main.where}: {error}") from error


def _default_module() -> str:
    for name in _MODULES:
        if Path(name).is_file():
            return name
    raise CliError(
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
    await _run_node(settings, dsn, module)


async def _run_serve(settings: Settings, dsn: str, module: UserModule) -> None:
    from server.migrate import check_schema

    await check_schema(dsn, settings.shards)
    await _run_node(settings, dsn, module)


async def _run_node(settings: Settings, dsn: str, module: UserModule) -> None:
    from server.doors import open_door
    from server.node import run_node

    closed = settings.role != "worker" and open_door(
        settings.host,
        guarded=module.authorize is not None,
        open_to_all=settings.open_to_all,
    )
    if closed:
        raise CliError(closed)
    try:
        await run_node(dataclasses.replace(settings, database_url=dsn), module)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        raise CliError(
            f"can't listen on {settings.host}:{settings.port}: {error.strerror}; "
            f"choose another with --port or --host"
        ) from error
