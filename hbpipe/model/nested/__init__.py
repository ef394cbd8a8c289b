"""Nested levels: groups within groups, from labels to the posterior of their means."""
