"""Tables on disk: events in, Delta tables out.

In reading order: ``events`` and ``survey`` find files and what they hold; ``clock``, ``keys``,
``measure`` and ``repeats`` judge rows; ``aggregate`` sums one piece of a file (the hot kernel);
``daily`` merges a day; ``window`` folds days for the fit. ``lake`` publishes and reads tables,
``schemas`` says what they hold. ``recount`` does the kernel's work again, slowly and apart, and
``suggest`` drafts a configuration.
"""
