"""Full Bayes of a pool and some of its stores, to hold what was published against.

Nothing here uses the numerics that it audits: likelihoods, densities, grid and sampler are its own.
Only the hyperprior's terms are taken over. The README of this folder says what is compared.
"""
