"""Pools and the groups below them: keys, parents, roots."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from hbpipe.data.window import Folded
from hbpipe.run.inference.tree import Tree, find_pools, number_pools, pool_codes, pool_label

LEVELS = ("platform", "chain", "region")
PATHS = [("x", 2, "n"), ("x", 1, "s"), ("x", 1, "n"), ("y", 2, "n"), ("y", 2, "s")]


def test_a_tree_of_two_levels() -> None:
    tree = Tree.of(PATHS, LEVELS, ("platform",), ("chain", "region"))
    assert tree.pools == [("x",), ("y",)]
    assert tree.keys[1] == [("x", 1), ("x", 2), ("y", 2)]
    assert tree.finest == sorted(PATHS)
    assert [codes.tolist() for codes in tree.parents] == [[0, 0, 1], [0, 0, 1, 2, 2]]
    assert tree.roots(0).tolist() == [0, 1]
    assert tree.roots(2).tolist() == [0, 0, 0, 1, 1]
    assert [codes.tolist() for codes in tree.members(1)] == [[1], [2], [3, 4]]
    assert (tree.levels, tree.depth) == (LEVELS, 2)


def test_a_level_left_out_joins_its_groups() -> None:
    tree = Tree.of(PATHS, LEVELS, (), ("region",))
    assert tree.keys == ([()], [("n",), ("s",)])
    assert tree.parents[0].tolist() == [0, 0]


def test_without_nested_levels_the_pools_are_the_finest() -> None:
    tree = Tree.of(PATHS, LEVELS, ("platform",), ())
    assert tree.keys == ([("x",), ("y",)],)
    assert (tree.pools, tree.parents, tree.depth) == (tree.finest, (), 0)


@given(st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=1))
def test_groups_of_a_pool_stand_side_by_side(paths: set[tuple[int, ...]]) -> None:
    tree = Tree.of(paths, LEVELS, ("platform",), ("chain", "region"))
    for depth, keys in enumerate(tree.keys):
        assert keys == sorted({path[: depth + 1] for path in paths})
        roots = tree.roots(depth)
        assert np.all(np.diff(roots) >= 0)
        assert [tree.pools[root] for root in roots] == [key[:1] for key in keys]
    for above, here, parents in zip(tree.keys, tree.keys[1:], tree.parents, strict=False):
        assert [above[parent] for parent in parents] == [key[:-1] for key in here]


def test_units_are_numbered_by_their_pools() -> None:
    keys = (pa.array(["b", "a", "b"]), pa.array([1, 1, 2]), pa.array(["u", "v", "w"]))
    folded = Folded(keys, np.ones(3, np.int64), {}, {})
    levels = ("chain", "region", "store")
    pools = sorted(find_pools(folded, levels, ("chain", "region")))
    assert pools == [("a", 1), ("b", 1), ("b", 2)]
    assert pool_codes(folded, levels, ("chain", "region"), pools).tolist() == [1, 0, 2]
    assert pool_codes(folded, levels, (), [()]).tolist() == [0, 0, 0]
    assert number_pools(keys[:1], 3, [("a",)]).tolist() == [-1, 0, -1]


def test_labels() -> None:
    assert [pool_label(pool) for pool in ((), ("a",), ("a", 7))] == ["all", "a", "a / 7"]
