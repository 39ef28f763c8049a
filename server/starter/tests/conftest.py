"""The fixture ``fleet`` runs the project for one test, on a database of its own."""

pytest_plugins = ["durable.testing"]
