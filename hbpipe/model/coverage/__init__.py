"""Do the intervals cover? A simulation study of every family, over pool sizes and signal ratios.

    python -m hbpipe.model.coverage --families normal --groups 10,50 --ratios 0.05,0.25 \
        --replicates 400 --seed 1

Each replicate draws a design (the stores' sizes), true effects and data, fits the pool and takes
nominal 95 % intervals. Coverage is Rao-Blackwellised: not whether the one true effect lies
inside, but the exact probability of the interval under the law of the effect given the data and
the *true* hyperparameters. That is unbiased for coverage and far less noisy. Replicates have
designs of their own, so the error printed includes differences between designs.
"""
