from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from durable import DurableObject, Request, Response
from durable.objects.log_context import note_request
from server.logs import JsonFormatter, PlainFormatter, redact
from tests.objects.scripted import Place


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "a.b", "levelno": 30, "levelname": "WARNING", "msg": message}
    )
    made.args = args
    made.__dict__.update(extra)
    return made


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to postgresql://me:s3cr:et@h:1/d?x=1", "to postgresql://me:***@h:1/d?x=1"),
        ("host=h password=s3cret dbname=d", "host=h password=*** dbname=d"),
        ("password = 'two words' x", "password = *** x"),
        (
            "http://h:80/a@b and mail@example.org",
            "http://h:80/a@b and mail@example.org",
        ),
    ],
)
def test_passwords_of_urls_and_connection_strings_are_not_shown(
    text: str, shown: str
) -> None:
    assert redact(text) == shown


def test_structured_lines_are_json_with_the_extra_fields() -> None:
    line = JsonFormatter().format(record("shard %d", 7, shard=7, peer=object))
    assert json.loads(line) == {
        "time": json.loads(line)["time"],
        "level": "warning",
        "logger": "a.b",
        "message": "shard 7",
        "shard": 7,
        "peer": "<class 'object'>",
    }


def test_a_trace_is_kept_and_its_password_is_not() -> None:
    try:
        raise ValueError("postgres://u:secret@h/d")
    except ValueError:
        failed = record("failed", exc_info=sys.exc_info())
    structured = JsonFormatter().format(failed)
    assert "ValueError" in json.loads(structured)["exception"]
    assert "ValueError" in PlainFormatter().format(failed)
    assert "secret" not in structured + PlainFormatter().format(failed)


def test_a_statement_of_an_agent_is_not_logged_by_the_pool_at_info() -> None:
    code = (
        "import logging; from server import logs; "
        "logs.configure('info', structured=True); "
        "print([logging.getLogger(n).isEnabledFor(logging.INFO) "
        "for n in ('psycopg.pool', 'server.node')])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[False, True]\n"


def test_what_is_no_http_costs_a_line_and_no_trace() -> None:
    code = """
import logging
from aiohttp.http_exceptions import BadHttpMessage
from durable import DurableObject, Request, Response
from durable.objects.log_context import note_request
from server.logs import configure
configure("info", structured=False)
log = logging.getLogger("aiohttp.server")
for error in (BadHttpMessage("no HTTP"), RuntimeError("a defect")):
    log.error("Error handling request", exc_info=error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    first, second, *trace = done.stderr.splitlines()
    assert "INFO" in first
    assert "ERROR" in second
    assert trace[-1] == "RuntimeError: a defect"


async def test_a_line_that_an_object_logs_says_which_and_for_which_request() -> None:
    lines: list[dict[str, object]] = []

    class Logging(DurableObject):
        async def fetch(self, request: Request) -> Response:
            lines.append(json.loads(JsonFormatter().format(record("hello"))))
            return Response("")

    place = Place(Logging)
    request = Request("GET", "http://x/", headers={"X-Request-Id": "abc-1"})
    note_request(request)
    await place.stub("a").fetch(request)
    note_request(Request("GET", "http://x/", headers={"X-Request-Id": "a b\n"}))
    await place.stub("a").fetch(request)
    first, second = lines
    assert first["request_id"] == "abc-1"
    assert first["object"] == str(place.stub("a").id)
    assert (first["name"], first["epoch"]) == ("a", 1)
    assert "request_id" not in second
    outside = json.loads(JsonFormatter().format(record("hello")))
    assert {"object", "name", "epoch"}.isdisjoint(outside)
