"""Priors that are finite mixtures of a family's conjugate laws: the algebra, fits, integration."""
