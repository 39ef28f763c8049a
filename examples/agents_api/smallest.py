"""The smallest agent: a class and nothing in it.

Run: durable dev examples/agents_api/smallest.py

It can already be connected to, and its clients share a state:
ws://127.0.0.1:8787/agents/smallest/any-name
"""

from __future__ import annotations

from agents import Agent


class Smallest(Agent):
    """Each name is its own instance, made when it is first asked for."""
