"""Does the model fit? Every store is held against what the others of its pool predict of it."""
