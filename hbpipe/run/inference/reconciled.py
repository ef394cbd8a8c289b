"""What became of the known totals of a metric, and the checks of a release that tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hbpipe.config import Audits
from hbpipe.model.reconciliation import Reconciled
from hbpipe.run.audits import Check, at_most
from hbpipe.run.inference.tree import Pool, pool_label
from hbpipe.run.totals import Totals

#: Groups that a sentence names.
_NAMED = 3


@dataclass(frozen=True)
class Outcome:
    """The totals of one metric against its stores.

    Parameters
    ----------
    n_groups
        Groups of stores, and totals of groups that have none.
    unknown
        Groups of stores without a total.
    strangers
        Totals of groups without a store.
    unmet
        Groups with a total and stores that could not be reconciled.
    reconciled, impossible
        Stores with a reconciled estimate, and those of them where θ cannot be.
    shift
        The greatest move of a store's mean, in its posterior sds.
    furthest
        The group where that is, its total and what its posterior means give; None without any.
    """

    n_groups: int
    unknown: list[str]
    strangers: list[str]
    unmet: list[str]
    reconciled: int
    impossible: int
    shift: float
    furthest: tuple[str, float, float] | None

    @classmethod
    def of(
        cls,
        totals: Totals,
        unknown: Sequence[Pool],
        groups: np.ndarray,
        found: Reconciled,
        limits: tuple[float, float],
    ) -> Outcome:
        """Judge what reconciling the stores of all shards has given; ``groups`` (J,) are theirs."""
        stores = np.bincount(groups[groups >= 0], minlength=len(totals.groups))
        labels = [pool_label(group) for group in totals.groups]
        done = np.isfinite(found.estimate)
        beyond = (found.estimate < limits[0]) | (found.estimate > limits[1])
        furthest, shift = None, 0.0
        if done.any():
            most = int(np.nanargmax(found.shift))
            shift, group = float(found.shift[most]), int(groups[most])
            furthest = labels[group], float(totals.values[group]), float(found.total[group])
        return cls(
            n_groups=len(unknown) + len(labels),
            unknown=[pool_label(group) for group in unknown],
            strangers=[labels[k] for k in np.flatnonzero(stores == 0)],
            unmet=[labels[k] for k in np.flatnonzero((stores > 0) & ~found.done)],
            reconciled=int(done.sum()),
            impossible=int(beyond.sum()),
            shift=shift,
            furthest=furthest,
        )


def check_totals(outcomes: Mapping[str, Outcome], limits: Audits) -> list[Check]:
    """Warn of groups without totals, of totals that are not met, and of those that are far off."""
    checks = []
    for metric, outcome in sorted(outcomes.items()):
        checks += [
            _check_known(metric, outcome),
            _check_met(metric, outcome),
            _check_near(metric, outcome, limits.max_reconciled_shift),
            _check_possible(metric, outcome),
        ]
    return checks


def _check_known(metric: str, outcome: Outcome) -> Check:
    message = f"{len(outcome.unknown)} of {outcome.n_groups} groups have no known total"
    message += _names(outcome.unknown)
    if outcome.strangers:
        message += f"; {len(outcome.strangers)} totals are of groups without stores"
        message += _names(outcome.strangers)
    value = len(outcome.unknown) + len(outcome.strangers)
    return at_most("release", "totals_known", metric, value, 0, message, "warn")


def _check_met(metric: str, outcome: Outcome) -> Check:
    message = f"{len(outcome.unmet)} groups have a total that no estimates were moved to"
    if outcome.unmet:
        message += (
            f"{_names(outcome.unmet)}: a weight is not known, a store with a weight has no "
            "posterior, no store has a weight, or none is uncertain"
        )
    return at_most("release", "totals_met", metric, len(outcome.unmet), 0, message, "warn")


def _check_near(metric: str, outcome: Outcome, limit: float) -> Check:
    message = "nothing was reconciled"
    if outcome.furthest is not None:
        group, total, before = outcome.furthest
        message = (
            f"a known total moves no mean by more than {outcome.shift:.3g} posterior sds: in "
            f"{group}, from {before:.6g} to {total:.6g}"
        )
        if outcome.shift > limit:
            message += "; it may be of other stores or days, or the model does not fit"
    return at_most("release", "totals_near", metric, outcome.shift, limit, message, "warn")


def _check_possible(metric: str, outcome: Outcome) -> Check:
    message = (
        f"{outcome.impossible} of {outcome.reconciled} reconciled estimates are where the "
        "parameter cannot be; they are published as they are"
    )
    return at_most("release", "reconciled_possible", metric, outcome.impossible, 0, message, "warn")


def _names(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return f" ({', '.join(labels[:_NAMED])}{more})"
