"""Nonparametric priors: convex weights over a grid of a family's conjugate laws."""
