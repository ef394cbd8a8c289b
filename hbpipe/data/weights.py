"""Weights of events as the configuration names them: a column, and what its numbers mean.

A bare column is refused: the same numbers give another posterior under each meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hbpipe.data.spelling import nearest

if TYPE_CHECKING:
    from hbpipe.model.family import Family

FREQUENCY, PRECISION, SAMPLING = "frequency", "precision", "sampling"
MEANINGS = (FREQUENCY, PRECISION, SAMPLING)
_MEANT = (
    "frequency (the row stands for so many identical events), precision (the variance of the "
    "row's value is divided by it), sampling (one over the probability with which the row was "
    "sampled); weights that fall with age are decay: {half_life: 14d}"
)


def read_weights(raw: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Write a metric's weights as the role that they fill.

    Returns
    -------
    The metric without ``weights``, with the role ``weight`` or, where values of a common sd have
    precisions, as ``normal_weighted``; and what the weights mean, None where none are left.

    Raises
    ------
    ValueError
        For a bare column, another meaning, and keys that are unusable.
    """
    written = {key: value for key, value in raw.items() if key != "weights"}
    if "weights" not in raw:
        return written, None
    weights = raw["weights"]
    if isinstance(weights, str):
        raise ValueError(
            f"weights: {weights!r} does not say what its numbers mean: write "
            f"{{column: {weights}, meaning: ...}} with {_MEANT}"
        )
    if not isinstance(weights, Mapping) or not isinstance(weights.get("column"), str):
        raise ValueError(f"weights is {{column: w, meaning: {FREQUENCY}}}, found {weights!r}")
    for key in weights:
        if key not in ("column", "meaning"):
            raise ValueError(f"weights: unknown key {key!r}; known: column, meaning")
    column, meaning = weights["column"], weights.get("meaning")
    if meaning not in MEANINGS:
        raise ValueError(f"weights: meaning is {_MEANT}; found {meaning!r}{_near(meaning)}")
    if meaning == PRECISION and raw.get("family") == "normal":
        return {**written, "family": "normal_weighted", "precision": column}, None
    return {**written, "weight": column}, meaning


def _near(meaning: Any) -> str:
    return nearest(meaning, MEANINGS) if isinstance(meaning, str) else ""


def check_weights(raw: Mapping[str, Any], family: Family, meaning: str) -> None:
    """Raise ValueError where weights of this meaning are not defined for a metric."""
    from hbpipe.model.weights import can_have  # brings scipy

    if not can_have(family, meaning):
        raise ValueError(f"weights of meaning {meaning} are not defined for {family.name}")
    if found := [key for key in ("experiment", "dynamics") if key in raw]:
        raise ValueError(f"{found[0]} does not go with weights")
    if meaning != SAMPLING:
        return
    if "overdispersion" in raw:
        raise ValueError(
            "overdispersion does not go with weights of meaning sampling: their effective size "
            "takes events as independent"
        )
    if "decay" in raw:
        raise ValueError("decay does not go with weights of meaning sampling: both rescale sizes")
    if raw.get("exposure") in ("days", "active_days"):
        raise ValueError(
            f"exposure: {raw['exposure']} does not go with weights of meaning sampling: rows that "
            "were not sampled have an exposure too; give the exposure of each row"
        )
