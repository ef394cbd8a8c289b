"""Posteriors of stores from the posterior of the hyperparameters, and their next observations."""
