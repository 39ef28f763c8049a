"""Commits that are to fail, whichever node and life of the object makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.objects.write_back import WriteBack

if TYPE_CHECKING:
    from uuid import UUID

    from durable.domain.writes import WriteSet


class Failures:
    """While it is open, the commits that are scripted fail in Postgres."""

    def __init__(self) -> None:
        # How many commits of an object are left, the failing one included.
        self._left: dict[UUID, int] = {}

    def script(self, object_id: UUID, nth: int) -> None:
        """Have the nth commit from now fail."""
        if nth < 1:
            raise ValueError("the next commit is the first: nth=1")
        self._left[object_id] = nth

    def __enter__(self) -> Failures:
        self._take = take = WriteBack.take_writes

        def poisoned(rows: WriteBack) -> WriteSet | None:
            writes = take(rows)
            left = self._left.get(rows.object_id)
            if writes is not None and left is not None:
                if left > 1:
                    self._left[rows.object_id] = left - 1
                else:
                    del self._left[rows.object_id]
                    # Past all checks, as a defect of an SDK would: it is no JSON.
                    writes.put(("$test", "poison"), "no json")
            return writes

        WriteBack.take_writes = poisoned  # type: ignore[method-assign,assignment]
        return self

    def __exit__(self, *_: object) -> None:
        WriteBack.take_writes = self._take  # type: ignore[method-assign]
