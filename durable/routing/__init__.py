"""Finding the owner."""
