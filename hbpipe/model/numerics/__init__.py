"""Numerics that know nothing of statistics: sums by group, derivatives, optimisers, samplers."""
