"""Identity: an object is (namespace, name); its shard follows from its id alone."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from uuid import UUID

MAX_NAME_BYTES = 1024


class NameRefused(ValueError):
    """A name that can't be one: empty, too long, or not encodable."""


# Ids of a jurisdiction are apart from all others: it can be read from the id. The names
# are Cloudflare's.
JURISDICTIONS = ("eu", "us", "fedramp", "fedramp-high")
_MARK_BYTES = 3


@dataclass(frozen=True, slots=True)
class DurableObjectId:
    """128 bits: the namespace's 32-bit tag and 96 bits of hash (or of chance).

    ``name`` is what the id was made from; None for unique ids and for ids that were
    read from text. Two ids are equal when their bits are. An id of a jurisdiction ends
    with 24 bits that follow from it and from the other bits; no other id does.
    """

    value: UUID
    name: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.value.hex

    def equals(self, other: DurableObjectId) -> bool:
        """Whether both name the same object."""
        return self == other

    @property
    def tag(self) -> int:
        """The tag of the namespace that the id belongs to."""
        return self.value.int >> 96

    @property
    def jurisdiction(self) -> str | None:
        """The jurisdiction that it was made for, if any."""
        return _jurisdiction_of(self.value.bytes)


def check_name(name: str) -> None:
    """Refuse a name that Postgres or a URL could not carry.

    Raises:
        NameRefused: empty, over 1,024 bytes of UTF-8, a NUL or a lone surrogate.
    """
    if not name:
        raise NameRefused("a name must not be empty")
    if "\0" in name:
        raise NameRefused("a name must not contain the NUL character")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise NameRefused("a name must be valid Unicode") from error
    if size > MAX_NAME_BYTES:
        raise NameRefused(f"a name is at most {MAX_NAME_BYTES} bytes, this has {size}")


@lru_cache(maxsize=16_384)
def id_from_name(
    tag: int, name: str, jurisdiction: str | None = None
) -> DurableObjectId:
    """The id of a name in the namespace with this tag: always the same one."""
    check_name(name)
    # One in four million hashes looks like an id of a jurisdiction: take the next.
    for number in count():
        digest = blake2b(
            name.encode(), digest_size=12, salt=_salt(jurisdiction, number)
        ).digest()
        value = _marked(tag, digest, jurisdiction)
        if _jurisdiction_of(value) == jurisdiction:
            return DurableObjectId(UUID(bytes=value), name)
    raise AssertionError("unreachable")


def unique_id(tag: int, jurisdiction: str | None = None) -> DurableObjectId:
    """A new random id in the namespace with this tag."""
    while True:
        value = _marked(tag, secrets.token_bytes(12), jurisdiction)
        if _jurisdiction_of(value) == jurisdiction:
            return DurableObjectId(UUID(bytes=value))


def _marked(tag: int, bits: bytes, jurisdiction: str | None) -> bytes:
    value = tag.to_bytes(4, "big") + bits
    if jurisdiction is None:
        return value
    head = value[:-_MARK_BYTES]
    return head + _mark(head, jurisdiction)


def _mark(head: bytes, jurisdiction: str) -> bytes:
    person = jurisdiction.encode()
    return blake2b(head, digest_size=_MARK_BYTES, person=person).digest()


def _jurisdiction_of(value: bytes) -> str | None:
    head, mark = value[:-_MARK_BYTES], value[-_MARK_BYTES:]
    for jurisdiction in JURISDICTIONS:
        if _mark(head, jurisdiction) == mark:
            return jurisdiction
    return None


def _salt(jurisdiction: str | None, number: int) -> bytes:
    # Without either: the plain hash.
    return f"{jurisdiction or ''}{number or ''}".encode()


def id_from_string(tag: int, text: str) -> DurableObjectId:
    """Read an id from its 32 hex digits.

    Raises:
        ValueError: malformed, or an id of another namespace.
    """
    if len(text) != 32 or not all(c in "0123456789abcdef" for c in text.lower()):
        raise ValueError(f"an id is 32 hex digits, not {text!r}")
    found = DurableObjectId(UUID(hex=text))
    if found.tag != tag:
        raise ValueError(f"id {text} belongs to another namespace")
    return found


def shard_of(value: UUID, shards: int) -> int:
    """The shard of an object id. Fixed for ever: shards never changes in a database."""
    return int.from_bytes(blake2b(value.bytes, digest_size=8).digest(), "big") % shards
