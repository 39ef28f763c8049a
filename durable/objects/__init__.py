"""One live object."""
