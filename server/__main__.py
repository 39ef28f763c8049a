"""``durable`` and ``python -m server``: the same program."""

from __future__ import annotations

import sys
from pathlib import Path

from server.user_module import put_last


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    # Before any import of ours: `python -m` has put the user's directory first.
    put_last(Path.cwd())
    from server.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
