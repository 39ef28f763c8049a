"""When a node looks at shards, and how fast they come and go: times, and how many."""

from __future__ import annotations

# Seconds between two looks at who is live and what is free, on average.
LOOK_SECONDS = 0.5
# Woken because somebody may be dead: Postgres may see it a little later than we do.
HURRIED_LOOKS = 5
HURRY_SECONDS = 0.04
# Shards that others come first for, claimed in a round, and seconds to the next round.
CLAIMS_A_ROUND = 64
ROUND_SECONDS = 0.01
# How long, for each place in the ranking, a worker leaves a free shard to those before
# it: one that its owner has lost (who comes first of all, and may be back at once, but
# if the link to it broke, too), and one that was released.
LOST_RANK_SECONDS = 0.1
FREE_RANK_SECONDS = 2.0
# Shards that are being handed over at a time, and are begun in a second.
HAND_OVER_AT_ONCE = 32
# For so long the live workers must be the same before shards move.
SETTLED_SECONDS = 1.0
# Until a lane is tried for again.
REOPEN_SECONDS = 1.0
