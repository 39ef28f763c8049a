"""How two nodes know each other before either parses anything of the other.

Each says who it is and a fresh nonce, in a fixed number of bytes; then each proves that
it has the secret, by a MAC over both greetings. Who can't is hung up on.
"""

from __future__ import annotations

import hmac
import secrets
from uuid import UUID

MAGIC = b"DLINK1\0\0"
NONCE_BYTES = 32
GREETING_BYTES = len(MAGIC) + 16 + NONCE_BYTES
PROOF_BYTES = 32


class HandshakeFailed(Exception):
    """The other side isn't a node of this fleet."""


class Handshake:
    """One side of it."""

    def __init__(self, secret: str, me: UUID, *, dialled: bool) -> None:
        self._secret = secret.encode()
        self.dialled = dialled
        self._me = me
        self.greeting = MAGIC + me.bytes + secrets.token_bytes(NONCE_BYTES)
        self._theirs = b""
        self.peer: UUID

    def greeted(self, greeting: bytes) -> bytes:
        """Take the other's greeting; returns the proof to send.

        Raises:
            HandshakeFailed: it isn't one.
        """
        if not greeting.startswith(MAGIC):
            raise HandshakeFailed("no link of this version")
        self._theirs = greeting
        self.peer = UUID(bytes=greeting[len(MAGIC) : len(MAGIC) + 16])
        if self.peer == self._me:
            raise HandshakeFailed("a node has no link to itself")
        return self._proof(dialled=self.dialled)

    def check(self, proof: bytes) -> None:
        """See that the other has the secret.

        Raises:
            HandshakeFailed: it hasn't.
        """
        if not hmac.compare_digest(proof, self._proof(dialled=not self.dialled)):
            raise HandshakeFailed("the link's secret is another one")

    def _proof(self, *, dialled: bool) -> bytes:
        # Whose proof it is is a part of it: nobody can be sent his own back.
        ours, theirs = self.greeting, self._theirs
        both = ours + theirs if self.dialled else theirs + ours
        side = b"dialled" if dialled else b"answered"
        return hmac.digest(self._secret, side + both, "sha256")
