"""TLS of links: both ends show a certificate of the same CA, and check the other's.

That CA is to be the fleet's own, since any certificate of it gets in as far as the
shared secret. Names aren't checked: nodes come and go, at addresses that the database
tells.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from server.settings import PREFIX, SettingsError

if TYPE_CHECKING:
    from server.settings import Settings


def contexts_of(settings: Settings) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    """For listening and for dialling; None if no certificate is configured.

    Raises:
        SettingsError: a file can't be read, or isn't what it should be.
    """
    certificate, key = settings.link_tls_cert, settings.link_tls_key
    authority = settings.link_tls_ca
    if certificate is None or key is None or authority is None:
        return None  # all or none: the settings have been checked
    with _named("link_tls_key", key):
        key.read_bytes()
    # Without the system's authorities: a certificate of the web makes no node.
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    dialling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (listening, dialling):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        with _named("link_tls_ca", authority):
            context.load_verify_locations(authority)
        with _named("link_tls_cert", certificate, f", with the key of {key}"):
            context.load_cert_chain(certificate, key, _no_password)
    return listening, dialling


@contextmanager
def _named(setting: str, path: Path, of: str = "") -> Iterator[None]:
    """An error says which setting it is about."""
    try:
        yield
    except OSError as error:  # that of TLS, too
        what = f"{PREFIX}{setting.upper()} is {path}{of}"
        if isinstance(error, ssl.SSLError):
            reason = f"it holds no usable PEM ({error.reason or error})"
        else:
            reason = error.strerror or str(error)
        raise SettingsError(f"{what}: {reason}") from error


def _no_password() -> str:
    # Else OpenSSL asks for it on the terminal, and the node hangs.
    raise SettingsError(f"{PREFIX}LINK_TLS_KEY is encrypted: links need a plain key")
