"""One process that owns many objects."""
