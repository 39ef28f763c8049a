"""The URLs that AgentClient and agent_fetch ask for.

Expected paths were printed by `new URL(...)` of Node 20 and by npm `partysocket`.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from agents.client_address import AgentAddress, is_local_host


def address(**options: Any) -> AgentAddress:
    return AgentAddress(**{"agent": "Counter", "host": "localhost:8787", **options})


@pytest.mark.parametrize(
    "host",
    [
        "localhost:8787",
        "127.0.0.1:80",
        "192.168.0.7",
        "10.1.2.3:99",
        "172.16.0.1",
        "172.20.0.1:8787",
        "172.31.255.255",
        "[::ffff:7f00:1]:80",
    ],
)
async def test_local_hosts_are_spoken_to_without_tls(host: str) -> None:
    assert is_local_host(host)
    assert (await address(host=host).url("ws")).scheme == "ws"
    assert (await address(host=host).url("http")).scheme == "http"


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "example.com:8787",
        "localhost",
        "127.0.0.1",
        "localhost.example.com",
        "172.15.0.1",
        "172.32.0.1",
        "172.160.0.1",
        "172.2.0.1",
        "11.0.0.1",
        "192.169.0.1",
    ],
)
async def test_other_hosts_are_spoken_to_with_tls(host: str) -> None:
    assert not is_local_host(host)
    assert (await address(host=host).url("ws")).scheme == "wss"
    assert (await address(host=host).url("http")).scheme == "https"


@pytest.mark.parametrize(
    ("protocol", "for_sockets", "for_requests"),
    [
        ("ws", "ws", "http"),
        ("wss", "wss", "https"),
        ("http", "ws", "http"),
        ("https", "wss", "https"),
    ],
)
async def test_the_protocol_overrules_the_host(
    protocol: str, for_sockets: str, for_requests: str
) -> None:
    given = address(protocol=protocol)
    assert (await given.url("ws")).scheme == for_sockets
    assert (await given.url("http")).scheme == for_requests


@pytest.mark.parametrize(
    "host", ["http://localhost:8787", "wss://localhost:8787/", "localhost:8787/"]
)
async def test_a_scheme_and_a_final_slash_of_the_host_are_left_out(host: str) -> None:
    url = await address(host=host).url("ws")
    assert str(url) == "ws://localhost:8787/agents/counter/default"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "/agents/counter/default"),
        ({"agent": "AIChat", "name": "r"}, "/agents/a-i-chat/r"),
        ({"path": "deep/er"}, "/agents/counter/default/deep/er"),
        ({"prefix": "api/v1"}, "/api/v1/counter/default"),
        ({"base_path": "user"}, "/user"),
        ({"base_path": "user", "path": "x", "name": "ignored"}, "/user/x"),
    ],
)
async def test_the_path_is_made_of_prefix_agent_name_and_path(
    options: dict[str, Any], path: str
) -> None:
    assert (await address(**options).url("http")).raw_path == path


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("a b", "a%20b"),
        ("a%20b", "a%20b"),
        ("a%2Fb", "a%2Fb"),
        ("a%zz", "a%zz"),
        ("é中", "%C3%A9%E4%B8%AD"),
        ('"<>`{}', "%22%3C%3E%60%7B%7D"),
        ("!$&'()*+,-.:;=@[]^_|~", "!$&'()*+,-.:;=@[]^_|~"),
        ("a\tb\nc\rd", "abcd"),
        ("\x00\x1f\x7f", "%00%1F%7F"),
        # The npm client sends these three bare, and so reaches another agent.
        ("what?", "what%3F"),
        ("no#1", "no%231"),
        ("back\\slash", "back%5Cslash"),
    ],
)
async def test_a_name_is_encoded_as_browsers_do(name: str, segment: str) -> None:
    for scheme in ("ws", "http"):
        url = await address(name=name).url(scheme)
        assert url.raw_path == f"/agents/counter/{segment}"


@pytest.mark.parametrize(
    ("query", "encoded"),
    [
        ({"a": "b c", "d": 'é&="'}, "a=b+c&d=%C3%A9%26%3D%22"),
        ({"none": None, "yes": True, "no": False, "n": 7}, "yes=true&no=false&n=7"),
        ({}, ""),
        (lambda: {"from": "a function"}, "from=a+function"),
    ],
)
async def test_the_query_is_encoded_as_a_form(query: Any, encoded: str) -> None:
    assert (await address(query=query).url("ws")).raw_query_string == encoded


async def test_the_query_function_is_asked_each_time() -> None:
    tokens = iter("ab")

    async def query() -> dict[str, str]:
        return {"token": next(tokens)}

    given = address(query=query)
    urls = [await given.url("ws", _pk="me") for _ in range(2)]
    assert [url.raw_query_string for url in urls] == [
        "_pk=me&token=a",
        "_pk=me&token=b",
    ]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"path": "/x"}, "must not start with a slash"),
        ({"protocol": "ftp"}, "must be one of ws"),
        ({"host": ""}, "names no host"),
        ({"host": "localhost:port"}, "port"),
    ],
)
def test_what_no_reconnect_could_mend_is_refused_at_once(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        address(**options)


def test_a_slash_in_the_name_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="agents"):
        address(name="a/b")
    assert "contains a slash" in caplog.text
