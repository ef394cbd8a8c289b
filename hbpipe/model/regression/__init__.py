"""Regressions with random coefficients: cross-products, Σ by its factors, stores' coefficients."""
