"""TLS between nodes: certificates of one CA on both ends, or no link."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from durable import Frame, Request, Response
from server.link.tls import contexts_of
from server.settings import Settings, SettingsError
from tests.server.link_nodes import SECRET, TARGET, Tls, linked, raw, two_nodes
from tests.server.nodes import client, node

YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


class Files:
    """The files of one node, as an operator would lay them out."""

    def __init__(self, directory: Path, authority: trustme.CA) -> None:
        directory.mkdir()
        self.authority = directory / "ca.pem"
        self.certificate, self.key = directory / "node.pem", directory / "node.key"
        authority.cert_pem.write_to_path(self.authority)
        self.issue(authority)

    def issue(self, by: trustme.CA, until: datetime.datetime | None = None) -> None:
        issued = by.issue_cert("node.internal", not_after=until)
        issued.private_key_pem.write_to_path(self.key)
        self.certificate.unlink(missing_ok=True)
        for part in issued.cert_chain_pems:
            part.write_to_path(self.certificate, append=True)

    @property
    def variables(self) -> dict[str, str]:
        return {
            "DURABLE_LINK_TLS_CERT": str(self.certificate),
            "DURABLE_LINK_TLS_KEY": str(self.key),
            "DURABLE_LINK_TLS_CA": str(self.authority),
        }

    @property
    def contexts(self) -> Tls:
        made = contexts_of(Settings.from_environment(self.variables))
        assert made is not None
        return made


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path / "good", authority)


async def test_calls_requests_and_sockets_go_through_tls_1_3(files: Files) -> None:
    async with linked(tls=(files.contexts, files.contexts)) as (first, second):
        transport = first.peer.connection._transport
        assert transport is not None
        assert transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        second.objects.answer = lambda request: Response(b"x" * 1_000_000)
        answer = await first.peer.objects.fetch(TARGET, Request("GET", "/"), {})
        assert len(b"".join([piece async for piece in answer.body])) == 1_000_000
        assert (await second.call("any", 1))[2] == [1]
        first.peer.connection.say_to(1, Frame(b"nobody's", text=True))
        assert (await first.call("any", 2))[2] == [2]


async def refused(
    tls: tuple[Tls | None, Tls | None],
    caplog: pytest.LogCaptureFixture,
    said: str,
) -> None:
    """There is no link, and a warning says why."""

    def warned() -> bool:
        texts = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        return any(said in text for text in texts)

    async with two_nodes(tls=tls) as (first, second):
        while not warned():
            await asyncio.gather(first.mesh.look(), second.mesh.look())
            await asyncio.sleep(0.01)
        assert (len(first.mesh), len(second.mesh)) == (0, 0)


@pytest.mark.parametrize("first_is_good", [True, False])
async def test_a_certificate_of_another_ca_gets_no_link(
    files: Files,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    first_is_good: bool,
) -> None:
    other = Files(tmp_path / "other", trustme.CA()).contexts
    good = files.contexts
    tls = (good, other) if first_is_good else (other, good)
    await refused(tls, caplog, "CERTIFICATE_VERIFY_FAILED")


async def test_an_expired_certificate_gets_no_link(
    files: Files,
    tmp_path: Path,
    authority: trustme.CA,
    caplog: pytest.LogCaptureFixture,
) -> None:
    late = Files(tmp_path / "late", authority)
    late.issue(authority, YESTERDAY)
    await refused((files.contexts, late.contexts), caplog, "certificate has expired")


async def test_a_client_without_a_certificate_gets_no_link(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    listening, _ = files.contexts
    naked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    naked.load_verify_locations(files.authority)
    naked.check_hostname = False
    # It is the first that dials.
    tls = ((listening, naked), files.contexts)
    await refused(tls, caplog, "refused by the other")


@pytest.mark.parametrize("first_has_tls", [True, False])
async def test_with_and_without_tls_there_is_no_link(
    files: Files, caplog: pytest.LogCaptureFixture, *, first_has_tls: bool
) -> None:
    tls = (files.contexts, None) if first_has_tls else (None, files.contexts)
    said = "refused by the other" if not first_has_tls else "SSL"
    await refused(tls, caplog, said)


async def test_what_is_no_tls_is_hung_up_on(files: Files) -> None:
    async with two_nodes(tls=(files.contexts, files.contexts)) as (first, _):
        reader, writer = await raw(first)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answered = await reader.read()
        assert SECRET.encode() not in answered
        assert len(answered) < 100  # an alert
        writer.close()


async def test_two_processes_link_with_tls(
    database_url: str, tmp_path: Path, files: Files
) -> None:
    variables = {**files.variables, "DURABLE_LEASE_SECONDS": "5"}
    async with (
        node(database_url, tmp_path / "w", DURABLE_ROLE="worker", **variables),
        node(database_url, tmp_path / "f", DURABLE_ROLE="front", **variables) as front,
        client(front.url) as one,
        await one.call("/agents/room/a") as caller,
    ):
        for _ in range(3):
            assert (await caller.reply("increment"))["success"]


# --- settings


def test_all_three_files_or_none(files: Files) -> None:
    assert contexts_of(Settings()) is None
    for name in files.variables:
        some = {k: v for k, v in files.variables.items() if k != name}
        with pytest.raises(SettingsError, match=f"there is no {name}"):
            Settings.from_environment(some)


def spoil(path: Path) -> None:
    path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


@pytest.mark.parametrize("how", [Path.unlink, spoil], ids=["missing", "spoiled"])
@pytest.mark.parametrize("which", ["certificate", "key", "authority"])
def test_a_bad_file_is_named(
    files: Files, which: str, how: Callable[[Path], None]
) -> None:
    bad: Path = getattr(files, which)
    how(bad)
    with pytest.raises(SettingsError, match=str(bad)) as caught:
        _ = files.contexts
    assert "DURABLE_LINK_TLS_" in str(caught.value)


def test_a_key_of_another_certificate_is_told(
    files: Files, authority: trustme.CA
) -> None:
    authority.issue_cert("other").private_key_pem.write_to_path(files.key)
    with pytest.raises(SettingsError, match=r"KEY_VALUES_MISMATCH|key values mismatch"):
        _ = files.contexts


def test_an_encrypted_key_is_refused_and_not_asked_for(files: Files) -> None:
    from cryptography.hazmat.primitives import serialization as pem

    key = pem.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            pem.Encoding.PEM,
            pem.PrivateFormat.PKCS8,
            pem.BestAvailableEncryption(b"hush"),
        )
    )
    with pytest.raises(SettingsError, match="encrypted"):
        _ = files.contexts
