"""A word that no command line of a box can hold is refused here, before anybody is asked."""

import subprocess

import pytest

from fleet.errors import UsageError
from fleet.steering.call import escape


@pytest.mark.parametrize("letter", ["x", "ä", "\udcff", "\\"])
def test_the_longest_word_fits_and_one_more_byte_is_refused(letter):
    size = len(letter.encode("utf-8", "surrogateescape"))
    most = letter * (131_071 // size)
    escape(most, "gpu1")
    argument = most.encode("utf-8", "surrogateescape")
    assert subprocess.run(["true", argument], check=False).returncode == 0
    with pytest.raises(UsageError, match="longer than 131071 bytes"):
        escape(most + letter, "gpu1")
