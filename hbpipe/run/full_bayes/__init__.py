"""Released posteriors held against full Bayes: what `hbpipe audit` does."""
