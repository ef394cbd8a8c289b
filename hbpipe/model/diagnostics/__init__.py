"""Whether the model fits: every store is held against what the others of its pool predict of it."""
