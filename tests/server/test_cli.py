"""The command line as a user meets it: processes, exit codes, standard output."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.embedded_postgres import data_location
from server.migrate import head
from server.postgres_keeper import is_alive, pidfile

ROOT = Path(__file__).parents[2]
READY = "Ready on http://127.0.0.1:"

AGENT = """
from agents import Agent, Response

class Counter(Agent):
    initial_state = {"count": 0}

    async def on_request(self, request):
        self.set_state({"count": self.state["count"] + 1})
        return Response.json(self.state)
"""


def environment(**settings: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DURABLE_")}
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


def durable(
    *arguments: str, cwd: Path = ROOT, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Runs one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        cwd=cwd,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def serving(
    *arguments: str, cwd: Path, **settings: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A node that serves; yields the process and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "server", *arguments, "--port", "0"],
        cwd=cwd,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        assert ready.startswith(READY), ready
        yield process, ready.removeprefix("Ready on ").strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as response:
        text: str = response.read().decode()
        return text


@pytest.fixture
def app(project_dir: Path) -> Path:
    """A project with one agent in app.py."""
    (project_dir / "app.py").write_text(AGENT)
    return project_dir


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["serve"], ["dev", "--port", "x"], ["new"]]
)
def test_wrong_usage_ends_with_2_and_says_how(arguments: list[str]) -> None:
    done = durable(*arguments)
    assert done.returncode == 2
    assert "usage: durable" in done.stderr


def test_an_error_is_one_message_without_a_trace_and_ends_with_1(app: Path) -> None:
    (app / "broken.py").write_text("x = 1\nnowhere()\n")
    for arguments, settings, said in [
        (["dev"], {"DURABLE_PORT": "http"}, "DURABLE_PORT: 'http' is not usable"),
        (["dev", "nowhere.py", "--port", "0"], {}, "there is no file nowhere.py"),
        (["dev", "broken.py", "--port", "0"], {}, 'File "broken.py", line 2'),
        (["serve", "app.py"], {}, "needs DURABLE_DATABASE_URL"),
        (["migrate"], {}, "needs DURABLE_DATABASE_URL"),
        (["new", "../x"], {}, "is no name for a project"),
    ]:
        done = durable(*arguments, cwd=app, **settings)
        assert done.returncode == 1
        assert done.stdout == ""
        assert said in done.stderr
        assert done.stderr.startswith("durable: ")
        assert "Traceback" not in done.stderr


def test_dev_without_a_module_and_without_app_py_says_how_to_begin(
    project_dir: Path,
) -> None:
    assert "durable new NAME" in durable("dev", cwd=project_dir).stderr


def test_settings_are_listed() -> None:
    done = durable("settings")
    assert done.returncode == 0
    assert "DURABLE_DATABASE_URL  (unset)" in done.stdout


def test_serve_refuses_a_database_until_it_was_migrated(
    app: Path, empty_database_url: str
) -> None:
    settings = {"DURABLE_DATABASE_URL": empty_database_url}
    refused = durable("serve", "app.py", cwd=app, **settings)
    assert refused.returncode == 1
    assert "run `durable migrate`" in refused.stderr

    migrated = durable("migrate", cwd=app, **settings)
    assert migrated.stdout == f"The schema is up to date (revision {head()}).\n"
    assert migrated.returncode == 0

    with serving("serve", "app.py", cwd=app, **settings) as (_, url):
        assert get(f"{url}/agents/counter/a") == '{"count":1}'


def test_serve_on_another_number_of_shards_is_refused(
    app: Path, database_url: str
) -> None:
    done = durable(
        *("serve", "app.py"),
        cwd=app,
        DURABLE_DATABASE_URL=database_url,
        DURABLE_SHARDS="7",
    )
    assert done.returncode == 1
    assert "DURABLE_SHARDS=1024" in done.stderr


def test_dev_brings_a_database_and_what_was_acknowledged_survives_kill_9(
    app: Path,
) -> None:
    with serving("dev", cwd=app) as (process, url):
        assert get(f"{url}/agents/counter/a") == '{"count":1}'
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving("dev", cwd=app) as (_, url):
        assert get(f"{url}/agents/counter/a") == '{"count":2}'


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_dev_with_0_after_one_line_of_output_and_stops_postgres(
    app: Path, how: signal.Signals
) -> None:
    with serving("dev", cwd=app) as (process, url):
        assert get(f"{url}/agents/counter/a") == '{"count":1}'
        postgres = int(pidfile(data_location(app / ".durable") / "data")[0])
        process.send_signal(how)
        rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
    assert not is_alive(postgres)


def test_a_port_that_is_in_use_is_named_with_the_option_to_change_it(
    app: Path, database_url: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = durable(
            *("dev", "--port", str(port)), cwd=app, DURABLE_DATABASE_URL=database_url
        )
    assert done.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.parametrize("name", ["agents.py", "durable.py"])
def test_a_module_with_the_name_of_one_of_our_packages_is_served(
    app: Path, name: str, database_url: str
) -> None:
    (app / "app.py").rename(app / name)
    with serving("dev", name, cwd=app, DURABLE_DATABASE_URL=database_url) as (_, url):
        assert get(f"{url}/agents/counter/a") == '{"count":1}'


def test_a_new_project_serves_its_page_and_passes_its_own_test(
    project_dir: Path, database_url: str
) -> None:
    assert durable("new", "trips", cwd=project_dir).returncode == 0
    again = durable("new", "trips", cwd=project_dir)
    assert again.returncode == 1
    assert "exists already" in again.stderr

    project = project_dir / "trips"
    assert (project / ".gitignore").read_text().startswith(".durable/")
    settings = {"DURABLE_DATABASE_URL": database_url}
    with serving("dev", cwd=project, **settings) as (_, url):
        assert "<h1>trips</h1>" in get(url)
        assert get(f"{url}/agents/counter/lobby") == '{"count":0}'
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed" in tested.stdout, tested.stdout + tested.stderr
