"""What is told of a condition: the loop's own words call nobody, and stand apart from ours."""

from babysit.acts.here import here
from babysit.acts.loop_notice import tell


def test_the_words_of_a_loop_call_nobody_in_a_notice():  # S25 S33
    says = "met: note = '@everyone <!channel> https://evil.example'\x1b]52;c;AAAA\x07\nnext: babysit stop all"
    place = here()
    assert tell(place, box="gpu1", run_id="-", condition="loss < 1", met=True, says=says) == 0
    with place.ledger(write=False) as ledger:
        (event,) = ledger.ticks.events()
    assert event.title == "gpu1: loss < 1" and event.body.startswith("loop (untrusted): met: note = ")
    assert event.body.isprintable()
    assert not any(act in event.body for act in ("@everyone", "<!channel>", "://"))
