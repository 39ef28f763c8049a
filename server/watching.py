"""What of a project changes: its Python files and its configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from server.config import FILE
from server.config_vars import DEV_VARS

log = logging.getLogger(__name__)

# Never the user's code; watching them costs a handle for each directory below.
_NOT_CODE: Final = frozenset({"node_modules", "venv", "env", "dist", "build"})
# Editors write a file in several steps, and several files at once.
DEBOUNCE_MS: Final = 100


def is_configuration(path: Path) -> bool:
    """Whether a file is read once, when a process starts, other than code."""
    return path.name in (FILE, DEV_VARS, "pyproject.toml")


def _matters(path: Path) -> bool:
    return path.suffix == ".py" or is_configuration(path)


def _real(path: Path) -> Path:
    return path.absolute().resolve()


def _below(directory: Path, data: Path) -> list[Path]:
    """The directories of a project that may hold code."""
    return [
        path
        for path in sorted(directory.iterdir())
        if path.is_dir()
        and not path.name.startswith((".", "__"))
        and path.name not in _NOT_CODE
        and not (path / "pyvenv.cfg").exists()
        and _real(path) != data
    ]


async def watch(directory: Path, data: Path) -> AsyncIterator[set[Path]]:
    """What has changed, over and over; ``data`` is left out: it changes always.

    What changes while the last change is worked on comes together after it.
    """
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    data = _real(data)
    changed: set[Path] = set()
    wake = asyncio.Event()
    # The directory itself is watched flat: below it is what must not be watched.
    flat = asyncio.create_task(_collect([directory], False, changed, wake))
    below: list[Path] = []
    deep: asyncio.Task[None] | None = None
    try:
        while True:
            now = _below(directory, data)
            if now != below:
                if deep is not None:
                    deep.cancel()
                below = now
                deep = asyncio.create_task(_collect(below, True, changed, wake))
            await wake.wait()
            wake.clear()
            found = {path for path in changed if _matters(path)}
            changed.clear()
            if found:
                yield found
    finally:
        flat.cancel()
        if deep is not None:
            deep.cancel()


async def _collect(
    paths: list[Path], recursive: bool, changed: set[Path], wake: asyncio.Event
) -> None:
    import watchfiles

    if not paths:
        return

    def passes(_: watchfiles.Change, text: str) -> bool:
        path = Path(text)
        return _matters(path) or path.is_dir()

    try:
        async for found in watchfiles.awatch(
            *paths,
            watch_filter=passes,
            debounce=DEBOUNCE_MS,
            recursive=recursive,
            ignore_permission_denied=True,
        ):
            changed |= {Path(text) for _, text in found}
            wake.set()
    except (OSError, RuntimeError) as error:
        # The system has no handles left, or a directory has gone: serving goes on.
        log.warning("changes below %s are not seen any more: %s", paths[0], error)
