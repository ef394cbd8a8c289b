"""Conversion times basket: what the two parts of ``hurdle_lognormal`` are together."""
