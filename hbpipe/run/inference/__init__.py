"""From statistics to staged tables: sketches, fits, posteriors, and what is said of them."""
