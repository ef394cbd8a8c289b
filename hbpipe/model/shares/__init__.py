"""Shares of several classes: the mean shares of a pool at a known spread, posteriors of stores."""
