"""Seeded simulations of several workers on one Postgres, with the real decisions."""
