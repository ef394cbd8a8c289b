"""Covariates on the prior mean: the location of a store's prior is linear in its attributes.

With the link g of a family (identity, logit, logarithm) the prior mean of store j is
g⁻¹(x_j' β), the same spread for all stores of a pool: Fay and Herriot (1979) for the normal
families, regression with a Beta or a Gamma between the stores for counts (Williams 1982; Lawless
1987). ``family.py`` makes such a family of any scalar one; ``posterior.py`` integrates.
"""

from hbpipe.model.covariates.family import with_covariates

__all__ = ["with_covariates"]
