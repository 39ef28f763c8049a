"""Loading the user's module, whatever it is called.

Our packages ``agents``, ``durable`` and ``server`` have names that users' files often
have too. Three rules keep them apart:

* the user's directory comes last on ``sys.path``: ``import agents`` is ours, and the
  user's other modules can be imported;
* the module that is run may have any name: where the name is taken, its file is
  loaded under a private one;
* what can't work (a *folder* with a taken name, a venv in which another distribution
  has overwritten ours) is an error that names the clash and the way out.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

DISTRIBUTION: Final = "durable-agents"
OURS: Final = ("agents", "durable", "server")

_HOME: Final = Path(__file__).resolve().parents[1]
_ALIAS: Final = "_user_module_"
_MARK: Final = f'__distribution__ = "{DISTRIBUTION}"'

AppKind = Literal["fetch", "aiohttp", "asgi"]


class UserModuleError(Exception):
    """The user's module can't be used; the text is for the user, without a trace."""


@dataclass(frozen=True, slots=True)
class UserModule:
    """What a node serves."""

    name: str
    classes: tuple[type, ...]
    app: Any = None
    """The fetch function, aiohttp application or ASGI application; None: routing."""
    kind: AppKind | None = None
    authorize: Any = None
    """The function that is asked who may come in, if the module has one."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, and the dotted name under which Python would import it."""

    path: Path
    root: Path  # the directory that would have to be on sys.path
    dotted: str


def put_last(directory: Path) -> None:
    """Makes a directory the last place where Python looks for modules.

    ``python -m`` and ``PYTHONPATH=.`` put the current one first, where the user's
    ``agents.py`` would hide our package.
    """
    resolved = directory.resolve()
    kept = [entry for entry in sys.path if Path(entry).resolve() != resolved]
    sys.path[:] = [*kept, str(resolved)]
    importlib.invalidate_caches()


def check_installation() -> None:
    """Refuses a venv in which another distribution has overwritten our packages."""
    for package in OURS:
        spec = importlib.util.find_spec(package)
        origin = Path(spec.origin) if spec and spec.origin else None
        intact = origin is not None and origin.resolve().parent.parent == _HOME
        if intact and package == "agents" and origin is not None:
            intact = _MARK in origin.read_text(encoding="utf-8")
        if not intact:
            raise UserModuleError(_overwritten(package, origin))


def _overwritten(package: str, origin: Path | None) -> str:
    owners = importlib.metadata.packages_distributions().get(package, [])
    others = sorted({name for name in owners if name != DISTRIBUTION})
    who = " and ".join(others) or "another distribution or a folder on PYTHONPATH"
    uninstall = f"pip uninstall {' '.join(others)} && " if others else ""
    return (
        f"the package '{package}' that Python finds ({origin or 'nothing'}) is not the "
        f"one of {DISTRIBUTION}: {who} has put its own in place.\n"
        f"Use a virtual environment without it, or repair this one:\n"
        f"  {uninstall}pip install --force-reinstall --no-deps {DISTRIBUTION}"
    )


def load_user_module(target: str, base: type) -> UserModule:
    """Loads ``MODULE[:ATTR]``; MODULE is a name or the path of a .py file.

    Args:
        target: as the user wrote it.
        base: the class whose subclasses in the module are bound.

    Raises:
        UserModuleError: with a text for the user.
    """
    named, _, attribute = target.partition(":")
    module = _load(named)
    app, kind = _app(module, named, attribute)
    classes = _classes(module, base)
    if not classes and app is None:
        raise UserModuleError(
            f"{named} has no subclass of Agent or DurableObject, and no `fetch`: there "
            f"is nothing to serve"
        )
    authorize = getattr(module, "authorize", None)
    return UserModule(
        name=named, classes=classes, app=app, kind=kind, authorize=authorize
    )


def reload_user_module(target: str, base: type) -> UserModule:
    """Loads it anew, with all modules of the user's that it has imported.

    Raises:
        UserModuleError: it can't be loaded; the loaded ones are as they were.
    """
    theirs = {
        name: module
        for name, module in sys.modules.items()
        if name != "__main__" and _is_users(getattr(module, "__file__", None) or "<")
    }
    for name in theirs:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        return load_user_module(target, base)
    except BaseException:
        sys.modules.update(theirs)
        raise


# --- finding ---------------------------------------------------------------------


def _load(named: str) -> ModuleType:
    here = Path.cwd().resolve()
    is_path = named.endswith(".py") or os.sep in named
    source = _from_path(here, named) if is_path else _from_name(here, named)
    put_last(here)
    if source is None:
        return _import(named, named)
    if source.root != here:
        put_last(source.root)
    top, *below = source.dotted.split(".")
    if _is_free(top, source.root):
        return _import(source.dotted, named)
    if below:
        raise UserModuleError(
            f"the folder {source.root / top} has the name of {_owner(top)}, so Python "
            f"would import that one instead: rename the folder"
        )
    return _load_file(source, named)


def _from_path(here: Path, named: str) -> _Source:
    path = (here / Path(named).expanduser()).resolve()
    if not path.is_file():
        raise UserModuleError(f"there is no file {named} (in {here})")
    if path.suffix != ".py":
        raise UserModuleError(f"{named} is not a .py file")
    return _source(path)


def _from_name(here: Path, named: str) -> _Source | None:
    if not all(part.isidentifier() for part in named.split(".")):
        raise UserModuleError(
            f"{named!r} is neither the name of a module nor the path of a .py file"
        )
    place = here.joinpath(*named.split("."))
    for path in (place.with_name(place.name + ".py"), place / "__init__.py"):
        if path.is_file():
            return _Source(path, here, named)
    if _find_spec(named) is None:
        raise UserModuleError(
            f"there is no module {named}: neither {named.replace('.', os.sep)}.py in "
            f"{here}, nor an installed one"
        )
    return None


def _source(path: Path) -> _Source:
    """The name of a file as Python sees it: up to where no ``__init__.py`` is."""
    parts = [] if path.name == "__init__.py" else [path.stem]
    root = path.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return _Source(path, root, ".".join(parts))


def _is_free(top: str, root: Path) -> bool:
    """Whether ``import top`` would give what lies in ``root``."""
    if not top.isidentifier():
        return False
    spec = _find_spec(top)
    if spec is None:
        return False
    if spec.origin is None:  # a folder without __init__.py
        found = [Path(place) for place in spec.submodule_search_locations or ()]
        return root / top in found
    return Path(spec.origin) in (root / f"{top}.py", root / top / "__init__.py")


def _find_spec(named: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(named)
    except (ImportError, ValueError):  # no such parent; or a module without a spec
        return None


def _owner(top: str) -> str:
    if top in OURS:
        return f"a package of {DISTRIBUTION}"
    if top in sys.stdlib_module_names:
        return "a module of the standard library"
    return "an installed package"


# --- importing -------------------------------------------------------------------


def _import(dotted: str, named: str) -> ModuleType:
    return _guarded(lambda: importlib.import_module(dotted), named)


def _load_file(source: _Source, named: str) -> ModuleType:
    alias = _ALIAS + "".join(c if c.isalnum() else "_" for c in source.path.stem)
    spec = importlib.util.spec_from_file_location(alias, source.path)
    if spec is None or spec.loader is None:
        raise UserModuleError(f"{named} can't be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and type hints are resolved through sys.modules.
    sys.modules[alias] = module
    loader = spec.loader

    def run() -> ModuleType:
        loader.exec_module(module)
        return module

    try:
        return _guarded(run, named)
    except BaseException:
        del sys.modules[alias]
        raise


def _guarded(load: Callable[[], ModuleType], named: str) -> ModuleType:
    """Runs an import; what the user's code raises becomes one clear message."""
    try:
        return load()
    except SystemExit as error:
        reason = f"SystemExit: {error.code}: a module must not end the process"
        raise UserModuleError(_failure(named, error, reason)) from error
    except Exception as error:
        reason = "".join(traceback.format_exception_only(error)).strip()
        raise UserModuleError(_failure(named, error, reason)) from error


def _failure(named: str, error: BaseException, reason: str) -> str:
    if isinstance(error, SyntaxError):  # its text has file, line and a marker
        return f"{named} can't be imported:\n{reason}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if _is_users(frame.filename)]
    where = "".join(
        f'  File "{_shown(frame.filename)}", line {frame.lineno}\n    {frame.line}\n'
        for frame in theirs
    )
    return f"{named} can't be imported:\n{where}{reason}{_hint(error)}"


def _is_users(filename: str) -> bool:
    """Not importlib's, ours, or an installed library's."""
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    if any(path.is_relative_to(_HOME / package) for package in OURS):
        return path.is_relative_to(_HOME / "server" / "demo")
    if "site-packages" in path.parts:
        return False
    return not path.is_relative_to(Path(os.__file__).resolve().parent)


def _shown(filename: str) -> str:
    path = Path(filename)
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _hint(error: BaseException) -> str:
    """The way out where the user's own file is hidden by our package."""
    name = (error.name or "").split(".")[0] if isinstance(error, ImportError) else ""
    hidden = Path.cwd() / f"{name}.py"
    if name not in OURS or not (hidden.is_file() or hidden.with_suffix("").is_dir()):
        return ""
    if hidden.with_suffix("").resolve() == _HOME / name:
        return ""
    return (
        f"\n`import {name}` is the package of {DISTRIBUTION}, not your own {name}: "
        f"rename yours to import from it"
    )


# --- what is in it ---------------------------------------------------------------


def _classes(module: ModuleType, base: type) -> tuple[type, ...]:
    found: dict[str, type] = {}
    for value in vars(module).values():
        if not (isinstance(value, type) and issubclass(value, base)) or value is base:
            continue
        if value.__module__.split(".")[0] in ("agents", "durable"):
            continue  # our own classes, imported to be subclassed
        other = found.setdefault(value.__name__, value)
        if other is not value:
            raise UserModuleError(
                f"two classes are called {value.__name__}: one of {other.__module__} "
                f"and one of {value.__module__}; an object is known by its class's name"
            )
    return tuple(found.values())


def _app(module: ModuleType, named: str, attribute: str) -> tuple[Any, AppKind | None]:
    if not attribute:
        if not hasattr(module, "fetch"):
            return None, None
        attribute = "fetch"
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise UserModuleError(f"{named} has no attribute {attribute}")
        value = getattr(value, part)
    kind = _kind(value)
    if kind is None:
        raise UserModuleError(
            f"{named}:{attribute} is {_described(value)}; it must be a function "
            f"fetch(request, env), an aiohttp.web.Application or an ASGI application"
        )
    return value, kind


def _kind(value: object) -> AppKind | None:
    from aiohttp.web import Application  # not needed to report an import error

    if isinstance(value, Application):
        return "aiohttp"
    if not callable(value) or isinstance(value, type):
        return None
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    required = [
        p
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.default is p.empty
    ]
    kinds: dict[int, AppKind] = {2: "fetch", 3: "asgi"}
    return kinds.get(len(required))


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"a function with the parameters {inspect.signature(value)}"
    return f"an object of type {type(value).__name__}"
