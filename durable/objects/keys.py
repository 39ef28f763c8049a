"""Keys of an object's storage, and ranges of them."""

from __future__ import annotations

from durable.domain.errors import ValueRefused, ValueTooLarge
from durable.domain.ports import KeyRange

# One call takes so many keys.
MAX_KEYS = 128
MAX_KEY_BYTES = 2048


def check_count(count: int) -> None:
    """Refuse too many keys at once."""
    if count > MAX_KEYS:
        raise ValueRefused(f"at most {MAX_KEYS} keys at once, not {count}")


def check_size(key: str, value: str | bytes, limit: int) -> None:
    """Refuse a value over ``limit`` bytes as stored.

    Raises:
        ValueTooLarge: with the size and the limit.
    """
    # A character has at most four bytes.
    if len(value) * 4 <= limit:
        return
    size = len(value.encode() if isinstance(value, str) else value)
    if size > limit:
        raise ValueTooLarge(
            f"{key!r}: a value is at most {limit} bytes as stored, this has {size}"
        )


def check_key(key: str) -> None:
    """Refuse what can't be a key."""
    if not isinstance(key, str):
        raise ValueRefused(f"a key is a string, not {type(key).__name__}")
    size = _check_text(key)
    if size > MAX_KEY_BYTES:
        raise ValueRefused(f"a key is at most {MAX_KEY_BYTES} bytes, this has {size}")


def _check_text(key: str) -> int:
    if "\0" in key:
        raise ValueRefused("a key must not contain the NUL character")
    try:
        return len(key.encode())
    except UnicodeEncodeError as error:
        raise ValueRefused("a key must be valid Unicode") from error


def key_range(
    start: str | None,
    start_after: str | None,
    end: str | None,
    prefix: str | None,
    reverse: bool,
    limit: int | None,
) -> KeyRange | None:
    """The range that ``list`` was asked for; None if nothing can be in it.

    Raises:
        ValueRefused: ``start`` with ``start_after``, or a limit below 1.
    """
    if start is not None and start_after is not None:
        raise ValueRefused("list() takes start or start_after, not both")
    if limit is not None and limit < 1:
        raise ValueRefused(f"a limit is at least 1, not {limit}")
    for bound in (start, start_after, end, prefix):
        if bound:
            _check_text(bound)
    low = start or ""
    if start_after is not None:
        # U+0001 follows nothing: a NUL can't be in a key, so this is the next key.
        low = start_after + "\x01"
    if prefix:
        low = max(low, prefix)
        after = _after_prefix(prefix)
        if after is not None and (end is None or after < end):
            end = after
    if end is not None and low >= end:
        return None
    return KeyRange(start=low, end=end, reverse=reverse, limit=limit)


def _after_prefix(prefix: str) -> str | None:
    """The first string after all that start with the prefix, by UTF-8 bytes."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # Skip the surrogates, which UTF-8 doesn't have.
            following = 0xE000 if last + 1 == 0xD800 else last + 1
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None
