"""Multi-site experiments: the effect of a treatment in every store, from statistics of two arms."""
