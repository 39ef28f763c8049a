"""Chat agents: messages, turns and streams behind the stock ``useAgentChat``."""
