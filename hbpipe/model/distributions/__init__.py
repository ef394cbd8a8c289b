"""Distributions: the laws of θ, their mixtures, and predictive counts."""
