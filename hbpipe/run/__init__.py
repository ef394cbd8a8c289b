"""One night: ``nightly`` runs it, ``stages`` tells it in reading order.

``plan`` (with ``inventory``, ``ledger`` and ``fingerprints``) decides what is due; ``engine`` does
the work here or on Dask; ``audits`` are the gates; ``commits`` and ``releases`` publish; ``verify``
and ``doctor`` check; ``simulate`` writes events to try it all on.
"""
