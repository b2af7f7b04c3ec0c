"""Whether a box that is taken over is one that has a name here: a shared host key is no proof of it."""

import pytest

from babysit.acts.adopt import same_machine

MINE, OTHER = "a" * 32, "b" * 32
HELD = frozenset({MINE})


@pytest.mark.parametrize(
    ("ids", "same_key", "same_place", "same", "says"),
    [
        ((HELD, MINE), True, False, True, "the same host key and box id"),
        ((HELD, OTHER), True, False, False, "another box id"),
        ((HELD, OTHER), True, True, False, "another box id"),  # a recycled address, an image's key
        ((HELD, MINE), False, True, False, "whose host key is another"),
        ((frozenset(), MINE), True, True, True, "at the same address"),
        ((frozenset(), MINE), True, False, None, "no run here holds a box id"),
        ((HELD, None), True, False, None, "its box id was not read"),
        ((HELD, None), True, True, True, "at the same address"),
    ],
)
def test_a_key_alone_makes_no_machine_the_same(ids, same_key, same_place, same, says):  # S4 R25
    alike = same_machine("gpu1", *ids, same_key=same_key, same_place=same_place)
    assert alike.same is same
    assert says in alike.says and "gpu1" in alike.says
