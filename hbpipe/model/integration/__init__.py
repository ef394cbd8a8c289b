"""The posterior of a pool's hyperparameters: grids in up to two dimensions, samples above."""
