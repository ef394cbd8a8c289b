"""A store's story in words, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from hbpipe.report.tables import cell
from hbpipe.run.store_story import Belief, MetricStory, StoreStory


def store_text(story: StoreStory) -> str:
    """Write the story of a store: what it observed, what its pool believes, how they were weighed.

    The release before says what has changed since.
    """
    names = ", ".join(f"{name} {value}" for name, value in reversed(story.levels.items()))
    title = f"{names}, as of {story.as_of} (release {story.release})"
    parts = [_metric_text(one, story.previous) for one in story.metrics]
    return "\n\n".join([title, *parts])


def _metric_text(one: MetricStory, previous: str | None) -> str:
    title = one.metric if one.term == "theta" else f"{one.metric}, {one.term}"
    lines = [_observed(one), _prior(one), *_weighed(one), *_standing(one), _since(one, previous)]
    return "\n".join([title, *(f"  {line}" for line in lines if line)])


def _observed(one: MetricStory) -> str:
    if one.row["silent"]:
        return "It had no events in the window."
    seen = f"n = {one.row['n']:,}"
    if one.row["raw"] is None:
        return f"Its own events, {seen}, do not determine it."
    return f"Its own events say {cell(one.row['raw'])}, from {seen}."


def _prior(one: MetricStory) -> str:
    if not one.posterior.is_known:
        return f"It has no posterior: {one.method.replace('_', ' ')}."
    learnt = "" if one.stores is None else f", learnt from {one.stores:,} stores,"
    where = f"Its pool {one.pool}{learnt}"
    if one.row["prior_mean"] is None:
        if one.new_store is None or one.new_store.low is None:
            return ""
        return f"{where} expects of a store never seen {_range(one.new_store)}; it has no mean."
    if one.new_store is None or one.new_store.low is None:
        return f"{where} expects {cell(one.row['prior_mean'])}."
    return (
        f"{where} expects {cell(one.row['prior_mean'])}, and of a store never seen "
        f"{_range(one.new_store)}."
    )


def _weighed(one: MetricStory) -> Iterator[str]:
    """Tell how both were weighed, and what came of it."""
    row, posterior = one.row, one.posterior
    if not posterior.is_known:
        return
    if row["weight"] is not None and row["raw"] is not None:
        own = 100.0 * row["weight"]
        yield f"Weighed: {own:.3g} % its own events, {100.0 - own:.3g} % its pool ({one.method})."
    about = "" if posterior.low is None else f": {_range(posterior)}"
    if posterior.mean is not None:
        yield f"Both together say {cell(posterior.mean)}{about}."
    else:
        median = "" if posterior.median is None else f"{cell(posterior.median)} in the median"
        yield f"Both together say {median or 'no mean'}{about}. The mean does not exist."
    if row["p_below_target"] is not None:
        yield f"It lies below its target with probability {_share(row['p_below_target'])}."
    if row.get("p_above_zero") is not None:
        yield f"The effect is above 0 with probability {_share(row['p_above_zero'])}."


def _standing(one: MetricStory) -> Iterator[str]:
    """Tell where it stands among the stores of its pool, and what the last day was like."""
    row = one.row
    if row.get("expected_percentile") is not None:
        yield (
            f"{100 * row['expected_percentile']:.3g} % of its pool's stores are expected below it; "
            f"it is in the top tenth with probability {_share(row['p_top_10'])}, "
            f"in the bottom tenth with {_share(row['p_bottom_10'])}."
        )
    if row.get("last_day_p") is not None:
        yield (
            f"Its last day, {cell(row['last_day_raw'])} from n = {row['last_day_n']:,.5g}, has the "
            f"p-value {cell(row['last_day_p'])} ({cell(row['last_day_q'])} among its pool's)."
        )


def _since(one: MetricStory, previous: str | None) -> str:
    if previous is None or one.posterior.mean is None:
        return ""
    before = one.before
    if before is None or before["mean"] is None:
        return f"Release {previous} had no posterior of it."
    moved = one.posterior.mean - before["mean"]
    if not moved:
        return f"It has not moved since release {previous}."
    sds = moved / one.posterior.sd if one.posterior.sd else 0.0
    return (
        f"Since release {previous} it went from {cell(before['mean'])} (n = {before['n']:,}) "
        f"by {moved:+.3g}, {sds:+.2f} of its sd."
    )


def _range(belief: Belief) -> str:
    """Give the outermost limits, and how much lies between them."""
    assert belief.coverage is not None
    return (
        f"{cell(belief.low)} to {cell(belief.high)} with probability {100 * belief.coverage:.3g} %"
    )


def _share(probability: float) -> str:
    """Show a probability in percent; what is rounded to 0 or 1 is told to be near it."""
    if probability < 0.001:
        return "below 0.1 %"
    if probability > 0.999:
        return "above 99.9 %"
    return f"{100 * probability:.3g} %"
