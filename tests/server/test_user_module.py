"""A user's module may be called anything. ``UserDict`` stands for ``Agent`` here."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys
import textwrap
from collections import UserDict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

import server
from server import user_module
from server.user_module import UserModule, UserModuleError, check_installation

TRIP = "from collections import UserDict\nclass Trip(UserDict): pass\n"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's directory, current; what is imported is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield tmp_path
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]
    sys.modules.update(before)


def write(directory: Path, name: str, text: str = TRIP) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def load(target: str) -> UserModule:
    return user_module.load_user_module(target, UserDict)


def names(module: UserModule) -> list[str]:
    return [cls.__name__ for cls in module.classes]


@pytest.mark.parametrize("target", ["app", "app.py", "./app.py"])
def test_a_module_is_given_by_name_or_by_path(directory: Path, target: str) -> None:
    write(directory, "app.py")
    assert names(load(target)) == ["Trip"]


@pytest.mark.parametrize(
    "stem", ["server", "agents", "durable", "migrations", "json", "aiohttp", "tests"]
)
@pytest.mark.parametrize("ending", ["", ".py"])
def test_a_module_may_have_a_name_that_is_taken(
    directory: Path, stem: str, ending: str
) -> None:
    write(directory, f"{stem}.py")
    taken = sys.modules.get(stem)
    assert names(load(stem + ending)) == ["Trip"]
    assert sys.modules.get(stem) is taken or stem == "migrations"


def test_a_name_that_is_no_python_name_can_be_loaded_by_path(directory: Path) -> None:
    write(directory, "my-app 2.py")
    assert names(load("my-app 2.py")) == ["Trip"]
    with pytest.raises(UserModuleError, match="neither the name of a module nor"):
        load("my-app")


def test_siblings_can_be_imported_and_our_packages_stay_ours(directory: Path) -> None:
    write(directory, "server.py", "import helper, agents\n" + TRIP)
    write(directory, "helper.py", "import server\nhome = server.__path__\n")
    load("server.py")
    assert sys.modules["helper"].home == server.__path__


def test_a_file_in_another_directory_finds_its_siblings(directory: Path) -> None:
    write(directory, "sub/app.py", "import helper\n" + TRIP)
    write(directory, "sub/helper.py", "")
    assert names(load("sub/app.py")) == ["Trip"]


@pytest.mark.parametrize("target", ["shop/agents.py", "shop.agents"])
def test_a_module_of_a_package_may_use_relative_imports(
    directory: Path, target: str
) -> None:
    write(directory, "shop/__init__.py", "")
    write(directory, "shop/models.py")
    write(directory, "shop/agents.py", "from .models import Trip\n")
    module = load(target)
    assert names(module) == ["Trip"]
    assert module.classes[0].__module__ == "shop.models"


def test_a_package_may_be_what_is_run(directory: Path) -> None:
    write(directory, "shop/__init__.py")
    assert names(load("shop")) == ["Trip"]


@pytest.mark.parametrize("target", ["agents/trip.py", "agents.trip"])
def test_a_folder_with_a_taken_name_is_an_error_that_says_to_rename_it(
    directory: Path, target: str
) -> None:
    write(directory, "agents/__init__.py", "")
    write(directory, "agents/trip.py")
    with pytest.raises(UserModuleError, match=r"package of durable-agents.*rename"):
        load(target)


def test_importing_from_a_hidden_file_of_ones_own_says_to_rename_it(
    directory: Path,
) -> None:
    write(directory, "agents.py")
    write(directory, "app.py", "from agents import Trip\n")
    with pytest.raises(UserModuleError, match=r"not your own agents: rename"):
        load("app")


def test_dataclasses_and_annotations_resolve_in_a_module_loaded_aside(
    directory: Path,
) -> None:
    write(
        directory,
        "agents.py",
        """
        from __future__ import annotations
        from collections import UserDict
        from dataclasses import dataclass

        @dataclass
        class Stop:
            place: str
            next: Stop | None = None

        class Trip(UserDict):
            def add(self, stop: Stop) -> Stop: ...
        """,
    )
    (trip,) = load("agents.py").classes
    stop = get_type_hints(trip.add)["stop"]  # type: ignore[attr-defined]
    assert [field.name for field in fields(stop)] == ["place", "next"]
    assert inspect.getmodule(trip) is sys.modules[trip.__module__]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nprint(nowhere)\n", ['File "app.py", line 2', "NameError: name"]),
        ("x = 1\ndef f(:\n", ["line 2", "SyntaxError"]),
        ("import nowhere_at_all\n", ['"app.py", line 1', "ModuleNotFoundError"]),
        ("import helper\n", ['"app.py", line 1', '"helper.py", line 1', "ZeroDiv"]),
        ("import sys\nsys.exit(3)\n", ['"app.py", line 2', "must not end the process"]),
        ("import json\njson.loads('{')\n", ['"app.py", line 2', "JSONDecodeError"]),
    ],
)
def test_a_failing_import_is_told_with_file_and_line_and_without_our_frames(
    directory: Path, text: str, said: list[str]
) -> None:
    write(directory, "app.py", text)
    write(directory, "helper.py", "1 / 0\n")
    with pytest.raises(UserModuleError) as caught:
        load("app.py")
    message = str(caught.value)
    assert message.startswith("app.py can't be imported")
    assert all(part in message for part in said), message
    assert "user_module" not in message
    assert "importlib" not in message
    assert "json/" not in message


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere.py", "there is no file nowhere.py"),
        ("nowhere", "there is no module nowhere"),
        ("notes.txt/x", "there is no file"),
        ("app.py:nowhere", "app.py has no attribute nowhere"),
        ("app.py:NUMBER", "an object of type int"),
        ("app.py:Trip", "the class Trip"),
        ("app.py:one", r"a function with the parameters \(request\)"),
        ("empty.py", "there is nothing to serve"),
    ],
)
def test_what_cannot_be_served_is_told(directory: Path, target: str, said: str) -> None:
    write(directory, "app.py", TRIP + "NUMBER = 1\ndef one(request): pass\n")
    write(directory, "empty.py", "")
    with pytest.raises(UserModuleError, match=said):
        load(target)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("app.py", "fetch"),
        ("app.py:other", "fetch"),
        ("app.py:site", "aiohttp"),
        ("app.py:asgi", "asgi"),
        ("app.py:holder.asgi_object", "asgi"),
        ("app.py:starlette", "asgi"),
        ("app.py:fastapi", "asgi"),
        ("agent.py", None),
    ],
)
def test_a_fetch_function_an_aiohttp_and_an_asgi_application_are_told_apart(
    directory: Path, target: str, kind: str | None
) -> None:
    write(directory, "agent.py")
    write(
        directory,
        "app.py",
        """
        from aiohttp import web
        from fastapi import FastAPI
        from starlette.applications import Starlette

        async def fetch(request, env): ...
        async def other(request, env, more=None): ...
        async def asgi(scope, receive, send): ...

        class Asgi:
            async def __call__(self, scope, receive, send): ...

        class holder:
            asgi_object = Asgi()

        site = web.Application()
        starlette = Starlette()
        fastapi = FastAPI()
        """,
    )
    module = load(target)
    assert module.kind == kind
    assert (module.app is None) == (kind is None)


def test_two_classes_of_one_name_are_refused(directory: Path) -> None:
    write(directory, "other.py")
    write(directory, "app.py", "from other import Trip as First\n" + TRIP)
    with pytest.raises(UserModuleError, match="two classes are called Trip"):
        load("app.py")


def test_an_intact_installation_is_accepted() -> None:
    check_installation()


def test_another_distribution_in_place_of_ours_is_named_with_the_way_out(
    directory: Path,
) -> None:
    """A copy of this installation, over which another `agents` has been put."""
    site = directory / "site"
    for package in ("agents", "durable", "server"):
        write(site, f"{package}/__init__.py", "")
    source = inspect.getsource(user_module)
    (site / "server" / "user_module.py").write_text(source)
    write(site, "openai_agents-1.0.dist-info/METADATA", "Name: openai-agents\n")
    write(site, "openai_agents-1.0.dist-info/top_level.txt", "agents\n")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import server.user_module as m; m.check_installation()",
        ],
        cwd=directory,
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "openai-agents has put its own in place" in done.stderr
    assert "pip uninstall openai-agents && pip install" in done.stderr
    assert importlib.metadata.packages_distributions()  # ours, untouched by the test


def test_put_last_lets_an_earlier_place_win(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["", str(directory), "/elsewhere"])
    user_module.put_last(directory)
    assert sys.path == ["/elsewhere", str(directory)]
