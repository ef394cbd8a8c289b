"""Normal laws with a variance per store: the conjugate algebra, hyperpriors and integration."""
