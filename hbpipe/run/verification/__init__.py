"""Whether machine, lake and releases hold what they promise: ``doctor`` and ``verify``."""
