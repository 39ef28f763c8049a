"""Words and rules: no I/O, no asyncio, the standard library only."""
