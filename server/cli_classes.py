"""``durable classes``: what classes a database has, and changing them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from server.cli_database import (
    CommandError,
    Site,
    confirm,
    print_json,
    print_table,
    run_command,
)
from server.config_migrations import Migration, Rename, Transfer

if TYPE_CHECKING:
    from server.classes import Say

Build = Callable[[argparse.Namespace, str], Migration]


def add_commands(commands: Any) -> None:
    """Adds ``classes`` and what is below it."""
    classes = commands.add_parser(
        "classes", help="list, make, rename, delete and transfer classes"
    )
    below = classes.add_subparsers(required=True, metavar="COMMAND")
    listed = below.add_parser("list", help="the classes, and the migrations applied")
    listed.add_argument("--json", action="store_true", help="as JSON")
    listed.set_defaults(command=_list)

    new = _change(below, "new", _new, "make a class")
    new.add_argument("name", metavar="CLASS")
    rename = _change(below, "rename", _rename, "call a class something else")
    rename.add_argument("name", metavar="OLD")
    rename.add_argument("to", metavar="NEW")
    delete = _change(below, "delete", _delete, "delete a class with all its data")
    delete.add_argument("name", metavar="CLASS")
    delete.add_argument("--yes", action="store_true", help="don't ask")
    delete.set_defaults(yes=False)  # the others have nothing to ask
    transfer = _change(below, "transfer", _transfer, "take a class from another app")
    transfer.add_argument("name", metavar="CLASS")
    transfer.add_argument("--from", dest="source", required=True, metavar="APP")
    transfer.add_argument("--to", metavar="NEW", help="its name here (default: as is)")


def _change(below: Any, word: str, build: Build, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = below.add_parser(word, help=text)
    parser.add_argument(
        "--app", help="the app that is meant (default: name of durable.toml, or main)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would happen, change nothing"
    )
    parser.set_defaults(command=_run_change, build=build, yes=True)
    return parser


def _new(options: argparse.Namespace, tag: str) -> Migration:
    return Migration(tag, new_classes=(_identifier(options.name),))


def _rename(options: argparse.Namespace, tag: str) -> Migration:
    to = _identifier(options.to)
    if to == options.name:
        raise CommandError(f"{to} is its name already")
    return Migration(tag, renamed_classes=(Rename(options.name, to),))


def _delete(options: argparse.Namespace, tag: str) -> Migration:
    return Migration(tag, deleted_classes=(options.name,))


def _transfer(options: argparse.Namespace, tag: str) -> Migration:
    to = _identifier(options.to or options.name)
    return Migration(
        tag, transferred_classes=(Transfer(options.name, options.source, to),)
    )


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise CommandError(f"{name!r} can't be the name of a class in Python")
    return name


def _run_change(options: argparse.Namespace) -> int:
    # Known by its time, so that it never is one of the configuration's tags.
    migration = options.build(options, f"by hand {datetime.now(UTC).isoformat()}")

    async def work(site: Site) -> None:
        from server.classes import app_of, change_classes, connected

        app = options.app or app_of(site.settings.project)
        async with connected(site.dsn) as connection:
            if options.dry_run or not options.yes:
                await change_classes(connection, app, migration, would, dry_run=True)
            if options.dry_run:
                return
            confirm("Nothing brings it back. Delete it?", yes=options.yes)
            say: Say = print
            await change_classes(connection, app, migration, say)

    return run_command(work)


def would(line: str) -> None:
    """Says what a dry run found."""
    print(f"would be done: {line}")


def _list(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        from durable.store import classes as store
        from server.classes import connected

        async with connected(site.dsn) as connection:
            found = await store.listed(connection)
            sizes = {c.tag: await store.size(connection, c.tag) for c in found}
            log = {
                app: await store.applied(connection, app)
                for app in sorted({entry.app for entry in found})
            }
        if options.json:
            _print_json(found, sizes, log)
            return
        print_table(
            ("app", "class", "objects", "keys", "bytes", "with SQL", "tag"),
            [
                (
                    entry.app,
                    f"{entry.name} (being deleted)" if entry.doomed else entry.name,
                    sizes[entry.tag].objects,
                    sizes[entry.tag].keys,
                    sizes[entry.tag].bytes,
                    sizes[entry.tag].schemas,
                    f"{entry.tag:08x}",
                )
                for entry in found
            ],
        )
        for app, applied in log.items():
            for migration in applied:
                print(f"applied ({app}): {migration.tag} {migration.steps}")
        if any(entry.doomed for entry in found):
            print("`durable migrate` goes on with deleting")

    return run_command(work)


def _print_json(found: Any, sizes: Any, log: Any) -> None:
    print_json(
        {
            "classes": [
                {
                    "app": entry.app,
                    "class": entry.name,
                    "tag": f"{entry.tag:08x}",
                    "deleting": entry.doomed,
                    "objects": sizes[entry.tag].objects,
                    "keys": sizes[entry.tag].keys,
                    "bytes": sizes[entry.tag].bytes,
                    "with_sql": sizes[entry.tag].schemas,
                }
                for entry in found
            ],
            "migrations": [
                {"app": app, "tag": entry.tag, "steps": entry.steps}
                for app, applied in log.items()
                for entry in applied
            ],
        }
    )
