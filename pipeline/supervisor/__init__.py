"""Keeps the workers of a host alive: starts them, restarts those that die, frees what they held, drains at the end."""
