"""Statistics: conjugate families, their fits, and posteriors. Imports numpy and scipy only.

``family.py`` is the contract, ``families/`` has one file per model, ``fit.py`` and
``posterior.py`` are the doors. ``README.md`` maps the modules in reading order.
"""
