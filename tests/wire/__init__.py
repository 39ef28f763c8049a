"""The wire of Agents: every rule of it, driven by the stock npm clients and by hand."""
