"""``[[migrations]]`` of the configuration, as data: what to do with which class."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rename:
    """The class ``from_`` is called ``to`` from now on; its objects stay."""

    from_: str
    to: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """The class ``from_`` of the app ``from_script`` becomes our class ``to``."""

    from_: str
    from_script: str
    to: str


@dataclass(frozen=True, slots=True)
class Migration:
    """One step, applied once and in the order of the file, known by its tag."""

    tag: str
    new_classes: tuple[str, ...] = ()
    """``new_classes`` and ``new_sqlite_classes`` in one: all storage is Postgres."""
    renamed_classes: tuple[Rename, ...] = ()
    deleted_classes: tuple[str, ...] = ()
    transferred_classes: tuple[Transfer, ...] = ()
