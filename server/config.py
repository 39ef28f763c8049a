"""``durable.toml``, or ``[tool.durable]`` in pyproject.toml → one ``Project``.

The shape is the one of ``wrangler.toml``. Nothing is started and no code of the user
is loaded here: what can be wrong in the file is found first, with file, line and key.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from server.config_ai import parse_ai
from server.config_classes import gone_classes, parse_migrations
from server.config_project import Binding, Configured, Project
from server.config_reader import ConfigError, Table, describe_value, read_document
from server.config_vars import name_problem, parse_vars, read_dev_vars
from server.settings import PREFIX, Settings

FILE: Final = "durable.toml"
PYPROJECT: Final = "pyproject.toml"

_KEYS: Final = (
    "name",
    "main",
    "durable_objects",
    "migrations",
    "vars",
    "ai",
    "limits",
    "placement",
    "observability",
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_FIELDS: Final = {
    f.name: f for f in dataclasses.fields(Settings) if "parse" in f.metadata
}
# Numbers too, but of a database or of one process, not of an app.
_NO_LIMITS: Final = ("port", "link_port", "shards", "weight")
LIMITS: Final = tuple(
    name
    for name, field in _FIELDS.items()
    if type(field.default) in (int, float) and name not in _NO_LIMITS
)
"""The keys of ``[limits]``: every setting that is a number."""
PLACEMENT: Final = ("labels", "weight")
OBSERVABILITY: Final = ("log_level", "show_errors")

_CLOUDFLARE: Final = "it is of Cloudflare's platform and means nothing here: remove it"
_CLOUDFLARE_KEYS: Final = (
    *("$schema", "account_id", "compatibility_date", "compatibility_flags"),
    *("workers_dev", "preview_urls", "route", "routes", "minify", "node_compat"),
    *("kv_namespaces", "d1_databases", "r2_buckets", "queues", "services"),
    *("browser", "vectorize", "hyperdrive", "workflows", "triggers", "assets"),
    *("build", "dev", "rules", "usage_model", "logpush", "tail_consumers"),
    # of [limits], [placement], [observability] and bindings
    *("cpu_ms", "subrequests", "mode", "head_sampling_rate", "environment"),
)
_HINTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(_CLOUDFLARE_KEYS, _CLOUDFLARE),
    **{name: f"set {PREFIX}{name.upper()} in the environment" for name in _FIELDS},
    **dict.fromkeys(LIMITS, "its place is below [limits]"),
    **dict.fromkeys(PLACEMENT, "its place is below [placement]"),
    **dict.fromkeys(OBSERVABILITY, "its place is below [observability]"),
    "env": "for another deployment set other DURABLE_* variables there",
    "enabled": "logs can't be switched off; log_level says how much is logged",
}


def load_project(directory: Path, *, dev: bool = False) -> Project:
    """Read the configuration in a directory; without a file, the defaults.

    ``dev`` adds ``.dev.vars``.

    Raises:
        ConfigError: with file, line and key.
    """
    root = _root(directory)
    project = Project() if root is None else _project(root)
    if not dev:
        return project
    secrets = read_dev_vars(directory, project.bound)
    return dataclasses.replace(project, vars=_frozen({**project.vars, **secrets}))


def _root(directory: Path) -> Table | None:
    """The table that holds the configuration, in whichever file it is."""
    own = _table_in(directory / FILE, ())
    shared = _table_in(directory / PYPROJECT, ("tool", "durable"))
    if own is not None and shared is not None:
        where = shared.document.where(shared.path)
        raise ConfigError(f"{where}: there is a {FILE} too; keep one of them")
    return own or shared


def _table_in(path: Path, keys: Collection[str]) -> Table | None:
    if not path.exists():
        return None
    document = read_document(path)
    table = Table(document, (), document.values)
    for key in keys:
        if key not in table.values:
            return None
        table = table.table(key)
    return table


def _project(root: Table) -> Project:
    root.only(_KEYS, _HINTS)
    name = root.text("name")
    if name is not None and not _NAME.fullmatch(name):
        raise root.error(
            "name",
            f"{name!r} is no name for an app: a letter or digit, then letters, digits, "
            "'-' and '_', at most 63",
        )
    main = root.text("main")
    project = Project(
        name=name,
        main=None if main is None else Configured(main, root.where("main")),
        bindings=_bindings(root.table("durable_objects"), name),
        migrations=parse_migrations(root),
        ai=parse_ai(root),
        settings=_frozen(
            {
                **dict(_settings(root.table("limits"), LIMITS)),
                **dict(_settings(root.table("placement"), PLACEMENT)),
                **dict(_settings(root.table("observability"), OBSERVABILITY)),
            }
        ),
        vars=_frozen(parse_vars(root.table("vars"))),
    )
    _check_together(root, project)
    return project


def _bindings(durable_objects: Table, app: str | None) -> tuple[Binding, ...]:
    durable_objects.only(("bindings",), _HINTS)
    found: dict[str, Binding] = {}
    for table in durable_objects.tables("bindings"):
        table.only(("name", "class_name", "script_name"), _HINTS)
        name = table.required("name")
        problem = name_problem(name)
        if problem is not None:
            raise table.error("name", f"{name!r} {problem}")
        if name in found:
            raise table.error("name", f"{name} is bound twice")
        script = table.text("script_name")
        found[name] = Binding(
            name=name,
            class_name=table.name("class_name"),
            script_name=None if script == app else script,
            where=table.where("class_name"),
        )
    return tuple(found.values())


def _settings(table: Table, keys: tuple[str, ...]) -> Iterator[tuple[str, Configured]]:
    table.only(keys, {key: hint for key, hint in _HINTS.items() if key not in keys})
    for key, value in table.values.items():
        yield key, Configured(_setting(table, key, value), table.where(key))


def _setting(table: Table, key: str, value: Any) -> Any:
    """A value as the environment's parser makes it, but with the types of TOML."""
    field = _FIELDS[key]
    is_list = isinstance(field.default, tuple)
    text = ",".join(table.texts(key)) if is_list else str(value)
    is_number = type(field.default) in (int, float)
    if is_number and isinstance(value, str) and not key.endswith("_bytes"):
        text = ""  # only sizes may be texts, as "10 MiB"
    try:
        return field.metadata["parse"](text)
    except ValueError as error:
        is_plain = is_list or type(value) in (str, int, float)
        shown = repr(value) if is_plain else describe_value(value)
        raise table.error(key, f"{shown} is not usable; it must be {error}") from None


def _check_together(root: Table, project: Project) -> None:
    """What is right by itself, but not beside the rest of the file."""
    gone = gone_classes(project.migrations)
    if project.ai is not None and project.ai.binding in project.vars:
        name = project.ai.binding
        raise root.table("vars").error(name, "is the name of [ai]'s binding too")
    for binding in project.bindings:
        if binding.name in project.vars:
            raise root.table("vars").error(binding.name, "is the name of a binding too")
        if project.ai is not None and binding.name == project.ai.binding:
            raise ConfigError(
                f"{root.table('ai').where('binding')}: {binding.name} is the name of a "
                "class's binding too"
            )
        if binding.script_name is None and binding.class_name in gone:
            raise ConfigError(
                f"{binding.where}: {binding.class_name} is gone since the migration "
                f"{gone[binding.class_name]!r}"
            )


def _frozen(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(values))
