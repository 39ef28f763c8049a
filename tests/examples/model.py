"""A stand-in for a language model: answers the OpenAI chat API over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ["An ", "old ", "silent ", "pond"]


class ChatHandler(BaseHTTPRequestHandler):
    """Says the same words each time, whole or in pieces; keeps what it was asked."""

    asked: list[dict[str, Any]]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer ``/chat/completions``."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        if body.get("stream"):
            self._stream()
        else:
            answer = {"choices": [{"message": {"content": "".join(WORDS)}}]}
            self._send("application/json", json.dumps(answer))

    def _stream(self) -> None:
        pieces = [{"choices": [{"delta": {"content": word}}]} for word in WORDS]
        lines = [f"data: {json.dumps(piece)}\n\n" for piece in pieces]
        self._send("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]))

    def _send(self, content_type: str, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def chat_server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The base URL of a running model, and the list of what it was asked."""
    asked: list[dict[str, Any]] = []
    handler = type("Handler", (ChatHandler,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", asked
        finally:
            server.shutdown()
            thread.join()
