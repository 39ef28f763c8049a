"""A process that uses the embedded Postgres, as a node does; for tests of the sharing.

``python -m tests.support.embedded_user DATA_DIR``: prints the URL, then waits until its
standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from server.embedded_postgres import embedded_postgres


async def main() -> None:
    """Uses it until told to stop."""
    async with embedded_postgres(Path(sys.argv[1])) as dsn:
        print(dsn, flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
