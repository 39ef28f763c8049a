"""The process: HTTP in, Postgres out, signals and the ``durable`` command."""
