"""The report of a release: one HTML file that needs nothing else, for people who act on it.

``write`` collects what a release says (``stores``, ``priors``, ``findings``), packs its numbers
(``packing``) and lays everything into one file (``page``). The page itself is in ``js``, ``css``
and ``page.html``; the plots are Observable Plot's, whose files are in ``vendor``.
"""
