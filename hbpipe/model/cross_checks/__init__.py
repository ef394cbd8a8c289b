"""Closed-form intervals that check the others: Prasad and Rao, Morris, robust empirical Bayes."""
