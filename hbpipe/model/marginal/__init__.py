"""Marginal likelihoods: what stores say of the hyperparameters, from sketches of many pools."""
