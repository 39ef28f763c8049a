"""The command line: ``durable migrate``, ``new``, ``settings``; the others lead on.

``dev`` and ``serve`` are in ``cli_node``. Commands on what a database holds are in
``cli_classes``, ``cli_doctor``, ``cli_fleet``, ``cli_inspect``, ``cli_quarantine``,
``cli_sql`` and ``cli_work``.

Exit codes: 0 done, 1 it can't be done (one message on standard error says why),
2 wrong usage, 130 interrupted before it served.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from server import (
    cli_classes,
    cli_doctor,
    cli_fleet,
    cli_inspect,
    cli_node,
    cli_quarantine,
    cli_sql,
    cli_work,
    logs,
)
from server.cli_database import CommandError
from server.cli_new import NewProjectError, new_project
from server.config import load_project
from server.config_reader import ConfigError
from server.settings import Settings, SettingsError, describe
from server.user_module import DISTRIBUTION, UserModuleError


def run(arguments: list[str]) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        return cli_node.INTERRUPTED
    except _expected_errors() as error:
        text = logs.redact(str(error))
        starter = getattr(options, "starter", None)
        if starter is None:
            print(f"durable: {text}", file=sys.stderr)
        else:
            starter.failed(text)
        return 1


def _expected_errors() -> tuple[type[Exception], ...]:
    """Errors that are for the user; every other one is a defect and shows its trace."""
    expected = [CommandError, ConfigError, NewProjectError]
    expected += [SettingsError, UserModuleError]
    # Loaded only by commands that can raise them.
    for module, name in (
        ("durable.domain.errors", "Unavailable"),
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

    cli_node.add_commands(commands)
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


# --- commands --------------------------------------------------------------------


def _migrate(options: argparse.Namespace) -> int:
    settings = Settings.from_environment(os.environ, project=load_project(Path.cwd()))
    if settings.database_url is None:
        raise CommandError(
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
