"""Ranks of stores within their pool, from their posteriors and the average of these."""
