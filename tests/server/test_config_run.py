"""A configured project as a user runs it: bindings, variables and main in effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from agents import Agent, get_agent_by_name
from durable import Unavailable
from server.config import load_project
from server.config_bindings import bindings_of
from server.config_project import Binding
from server.config_reader import ConfigError
from server.embed import DurableRuntime
from tests.server.test_cli import AGENT, durable, get, serving

APP = """
from agents import Agent, Response

class ChatRoom(Agent):
    async def on_request(self, request):
        return Response.json({
            "bound": [name for name in ("ROOMS", "ChatRoom", "Unbound", "MAIL")
                      if hasattr(self.env, name)],
            "greeting": self.env.GREETING,
            "limit": self.env.LIMITS["most"],
            "secret": self.env.SECRET,
            "same": self.env.ROOMS.cls is ChatRoom,
        })

class Unbound(Agent):
    pass
"""

CONFIG = """
name = "chat"
main = "src/chat.py"

[[durable_objects.bindings]]
name = "ROOMS"
class_name = "ChatRoom"

[[durable_objects.bindings]]
name = "MAIL"
class_name = "Mailer"
script_name = "mail"

[vars]
GREETING = "hello"
SECRET = "of the file"
[vars.LIMITS]
most = 3

[limits]
max_body_bytes = "1KiB"
"""


class ChatRoom(Agent):
    def count(self) -> int:
        return 1


class Unbound(Agent):
    pass


@pytest.fixture
def project(project_dir: Path) -> Path:
    """A project with a durable.toml and an agent in src/chat.py."""
    (project_dir / "src").mkdir()
    (project_dir / "src" / "chat.py").write_text(APP)
    (project_dir / "durable.toml").write_text(CONFIG)
    (project_dir / ".dev.vars").write_text("SECRET=of the developer\n")
    return project_dir


async def status(session: aiohttp.ClientSession, url: str, body: bytes = b"") -> int:
    async with session.post(url, data=body) as response:
        return response.status


async def test_dev_without_an_argument_runs_what_durable_toml_says(
    project: Path,
) -> None:
    with serving("dev", cwd=project) as (_, url):
        assert json.loads(get(f"{url}/agents/rooms/a")) == {
            "bound": ["ROOMS", "MAIL"],
            "greeting": "hello",
            "limit": 3,
            "secret": "of the developer",
            "same": True,
        }
        async with aiohttp.ClientSession() as session:
            # The URL has the binding's name, the identity the class's.
            async with session.ws_connect(f"{url}/agents/rooms/a") as socket:
                identity = json.loads(await socket.receive_str(timeout=10))
            assert identity["agent"] == "chat-room"
            assert await status(session, f"{url}/agents/chat-room/a") == 400
            assert await status(session, f"{url}/agents/rooms/a", b"x" * 1025) == 413
            async with session.get(f"{url}/agents/mail/a") as response:
                assert response.status == 503
                assert "class Mailer of the app 'mail'" in await response.text()


async def test_serve_takes_main_and_the_environment_goes_before_the_file(
    project: Path, database_url: str
) -> None:
    with serving(
        "serve",
        cwd=project,
        DURABLE_DATABASE_URL=database_url,
        DURABLE_MAX_BODY_BYTES="2KiB",
        DURABLE_VAR_GREETING="good evening",
    ) as (_, url):
        found = json.loads(get(f"{url}/agents/rooms/a"))
        assert found["greeting"] == "good evening"
        assert found["secret"] == "of the file"  # .dev.vars is for `durable dev`
        async with aiohttp.ClientSession() as session:
            assert await status(session, f"{url}/agents/rooms/a", b"x" * 1025) == 200


def test_a_module_on_the_command_line_goes_before_main(
    project_dir: Path, database_url: str
) -> None:
    (project_dir / "app.py").write_text(AGENT)
    (project_dir / "durable.toml").write_text('main = "nowhere.py"')
    settings = {"DURABLE_DATABASE_URL": database_url}
    with serving("serve", "app.py", cwd=project_dir, **settings) as (_, url):
        assert get(f"{url}/agents/counter/a") == '{"count":1}'


def test_what_is_wrong_is_said_in_one_line_before_anything_starts(
    project: Path,
) -> None:
    for old, new, said in [
        ("", "oops", "durable.toml:1: not TOML"),
        ("name = ", "nam = ", "durable.toml:2: nam: unknown key; did you mean name?"),
        (
            "chat.py",
            "nowhere.py",
            "durable.toml:3: main: there is no file src/nowhere.py",
        ),
        (
            '"ChatRoom"',
            '"ChatRom"',
            "durable.toml:7: durable_objects.bindings[0].class_name: the module has",
        ),
    ]:
        text = CONFIG.replace(old, new) if old else new
        (project / "durable.toml").write_text(text)
        done = durable("dev", cwd=project)
        assert done.returncode == 1
        assert done.stderr.startswith(f"durable: {said}")
        assert "Traceback" not in done.stderr


async def test_embedded_agents_are_configured_by_the_same_file(
    project_dir: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project_dir / "durable.toml").write_text(
        CONFIG.replace('main = "src/chat.py"', "")
    )
    monkeypatch.chdir(project_dir)
    monkeypatch.setenv("DURABLE_DATABASE_URL", database_url)
    async with DurableRuntime([ChatRoom, Unbound]) as runtime:
        env = runtime.env
        assert env.GREETING == "hello"
        room = await get_agent_by_name(env.ROOMS, "a")
        assert await room.count() == 1
        # The database knows a class by its own name, however it is bound.
        same = await get_agent_by_name(ChatRoom, "a", env=env)
        assert same.id == room.id  # type: ignore[attr-defined]  # it is a stub
        with pytest.raises(LookupError, match="Unbound is not bound"):
            await get_agent_by_name(Unbound, "a", env=env)
        with pytest.raises(Unavailable, match=r"env\.MAIL is the class Mailer"):
            await env.MAIL.get_by_name("a").send("x")


# --- which names env gets --------------------------------------------------------

CLASSES: Mapping[str, type[Agent]] = {"ChatRoom": ChatRoom, "Unbound": Unbound}


def bound(directory: Path, *bindings: str) -> list[tuple[str, str]]:
    text = "".join(f"[[durable_objects.bindings]]\n{b}\n" for b in bindings)
    (directory / "durable.toml").write_text(text)
    found: tuple[Binding, ...] = bindings_of(load_project(directory), CLASSES)
    return [(binding.name, binding.class_name) for binding in found]


def test_without_bindings_each_class_is_bound_under_its_name(tmp_path: Path) -> None:
    assert bound(tmp_path) == [("ChatRoom", "ChatRoom"), ("Unbound", "Unbound")]


def test_with_bindings_only_these_are_bound_and_a_class_may_be_twice(
    tmp_path: Path,
) -> None:
    one = 'name = "A"\nclass_name = "ChatRoom"'
    two = 'name = "B"\nclass_name = "ChatRoom"'
    assert bound(tmp_path, one, two) == [("A", "ChatRoom"), ("B", "ChatRoom")]


def test_a_class_that_the_module_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        bound(tmp_path, 'name = "A"\nclass_name = "Xyz"')
    assert str(caught.value) == (
        "durable.toml:3: durable_objects.bindings[0].class_name: the module has no "
        "class Xyz, it has ChatRoom, Unbound; script_name names the app of a class "
        "elsewhere"
    )
    theirs = 'name = "A"\nclass_name = "Xyz"\nscript_name = "theirs"'
    assert bound(tmp_path, theirs) == [("A", "Xyz")]


def test_two_bindings_with_one_url_segment_are_refused(tmp_path: Path) -> None:
    one = 'name = "MyRoom"\nclass_name = "ChatRoom"'
    two = 'name = "MY_ROOM"\nclass_name = "Unbound"'
    with pytest.raises(ConfigError, match="MyRoom and MY_ROOM are both 'my-room'"):
        bound(tmp_path, one, two)
