"""A loop's own words in a notice: shown, and calling nobody."""

import pytest
from hostile import CORPUS
from unit.text.test_hostile import shows

from fleet.notices.message import defused
from fleet.text.untrusted import decode


@pytest.mark.parametrize("kind", CORPUS)
def test_the_words_of_a_box_call_nobody_and_link_to_nothing(kind):  # S33
    for entry in CORPUS[kind]:
        text = defused(decode(entry))
        shows(text)
        assert "\n" not in text and len(text) < 600
        assert not any(
            act in text for act in ("@everyone", "@here", "@all", "<!channel>", "<@U", "<at", "://")
        )
