"""``durable new NAME``: a small project that runs, from the files in ``starter/``."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PLACEHOLDER: Final = "PROJECT_NAME"
# A real .gitignore would apply to our own repository.
_RENAMED: Final = {"gitignore": ".gitignore"}


class NewProjectError(Exception):
    """The project can't be made; the text says why."""


def new_project(name: str, where: Path) -> Path:
    """Makes the directory ``where/name`` with the starter's files in it.

    Raises:
        NewProjectError: for a bad name, or a directory that isn't empty.
    """
    if not _NAME.fullmatch(name):
        raise NewProjectError(
            f"{name!r} is no name for a project: a letter, then letters, digits, "
            f"'-' and '_'"
        )
    directory = where / name
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise NewProjectError(f"{directory} exists already and is not empty")
    try:
        directory.mkdir(exist_ok=True)
        _copy(files("server") / "starter", directory, name)
    except OSError as error:
        raise NewProjectError(f"{directory} can't be made: {error.strerror}") from error
    return directory


def _copy(source: Traversable, target: Path, name: str) -> None:
    for entry in source.iterdir():
        if entry.name == "__pycache__":
            continue
        place = target / _RENAMED.get(entry.name, entry.name)
        if entry.is_dir():
            place.mkdir()
            _copy(entry, place, name)
        else:
            text = entry.read_text(encoding="utf-8").replace(_PLACEHOLDER, name)
            place.write_text(text, encoding="utf-8")
