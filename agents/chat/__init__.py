"""Chat agents: messages, turns and streams behind the stock ``useAgentChat``."""

from __future__ import annotations

from agents.chat import ui_stream
from agents.chat.chat_agent import AIChatAgent
from agents.chat.turn_options import AbortSignal, ChatOptions, ChatResponse, SavedTurn

__all__ = [
    "AIChatAgent",
    "AbortSignal",
    "ChatOptions",
    "ChatResponse",
    "SavedTurn",
    "ui_stream",
]
