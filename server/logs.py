"""Logs: lines for people in ``durable dev``, JSON objects in ``durable serve``.

Both go to standard error; standard output has the ready line alone. No line shows the
password of a database URL, wherever it came from.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

from durable.objects.log_context import log_context

_URL_PASSWORD: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+(?=@)")
_KEY_PASSWORD: Final = re.compile(r"(?i)(\bpassword\s*=\s*)('[^']*'|[^\s'&]+)")
_HIDDEN: Final = r"\1***"

# What every record has: anything else was given as ``extra`` and is logged by name.
_STANDARD: Final = frozenset(
    [*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"]
)
_OURS: Final = frozenset(["time", "level", "logger"])


def redact(text: str) -> str:
    """The text without the passwords of URLs and connection strings."""
    return _KEY_PASSWORD.sub(_HIDDEN, _URL_PASSWORD.sub(_HIDDEN, text))


class PlainFormatter(logging.Formatter):
    """``12:00:01 INFO  server.node: message``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%X")

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a trace below it where there is one."""
        return redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object per line, with the ``extra`` of the call as further keys."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **log_context(),
        }
        known = _STANDARD | _OURS
        line |= {k: v for k, v in vars(record).items() if k not in known}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        shown = {
            key: redact(value) if isinstance(value, str) else value
            for key, value in line.items()
        }
        return json.dumps(shown, default=lambda value: redact(str(value)))


class _BadRequests(logging.Filter):
    """What isn't HTTP is the client's fault: aiohttp's trace of it is left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it through, without its trace if a client is to blame."""
        error = record.exc_info[1] if record.exc_info else None
        if type(error).__module__ == "aiohttp.http_exceptions":
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


def configure(level: str, *, structured: bool) -> None:
    """Sets up the root logger; what was set up before is replaced."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if structured else PlainFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    handler.addFilter(_BadRequests())
    # Chatty at "info" about what isn't ours to report.
    chatty = ("alembic", "apscheduler", "aiohttp.access", "asyncio", "psycopg")
    for name in chatty:
        logging.getLogger(name).setLevel(logging.WARNING)
