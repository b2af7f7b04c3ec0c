import pytest
from unit.patrol.build import run

from fleet.model.spec import BoxSpec
from fleet.text.frame import request
from patrol.ask import request_pairs
from patrol.history import History


def test_what_is_asked():
    runs = [run("a", cwd="~/p", artifacts=("ck/*.pt", "x y")), run("b", cwd="~/p")]
    seen = {"a-k3f9": History(log_id="1:2", log_offset=40)}
    assert request_pairs(runs, seen, gpu=True, wait=("a-k3f9", 55)) == (
        ("state", "-"),
        ("gpu", "1"),
        ("wait", "a-k3f9 55"),
        ("disk", "~/p"),
        ("run", "a-k3f9 1:2 40 16384"),
        ("artifact", "a-k3f9 ck/*.pt"),
        ("artifact", "a-k3f9 x y"),
        ("run", "b-k3f9 - 0 16384"),
    )


def test_the_state_folder_is_the_boxs_own():
    of = run(box=BoxSpec("gpu1", "h", state_dir="/vol/state"))
    assert request_pairs([of], {}, gpu=False, wait=None)[:2] == (("state", "/vol/state"), ("gpu", "0"))


@pytest.mark.parametrize(("count", "most"), [(1, 16384), (10, 16384), (11, 14894), (64, 2560)])
def test_logs_share_what_an_answer_holds(count, most):  # P9
    pairs = request_pairs([run(f"r{n}") for n in range(count)], {}, gpu=False, wait=None)
    sizes = [int(value.split()[-1]) for key, value in pairs if key == "run"]
    assert sizes == [most] * count
    assert sum(sizes) <= 160 * 1024


def test_a_value_that_would_not_stay_on_its_line_is_refused():
    pairs = request_pairs([run(artifacts=("a\nend",))], {}, gpu=False, wait=None)
    with pytest.raises(ValueError):
        request("a" * 32, pairs)
