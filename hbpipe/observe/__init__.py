"""Who watches the runs: logs, gauges, lineage, spans and notifications.

``observers_of(settings)`` makes the observer that the sections ``observe`` and ``notify`` ask for.
None of it can fail a run, and none of it is there unless configured.
"""

from hbpipe.observe.watch import observers_of

__all__ = ["observers_of"]
