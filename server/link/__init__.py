"""The one connection between each two nodes, and what goes over it."""
