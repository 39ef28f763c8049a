"""Many clients for long: restarts under load, slow readers, hot agents, reconnects.

Each is a command that prints its figures and ends with 1 if a promise was broken:

    python -m tests.endurance.rolling --sockets 1000
    python -m tests.endurance.crowding

Short forms run in ``make test``, the long ones in ``make soak``.
"""
