import pytest

from fleet.arming.ask import ask, checked_name
from fleet.errors import BoxRefused, Busy, NotFound, ProbeUnreadable, UsageError
from fleet.link.base import Reply
from fleet.text.frame import cksum


class AnsweringLink:
    """Answers every visit with `body` in a whole frame of the token that was asked for."""

    def __init__(self, body=b"", *, before=b"", after=b"", cut=None, over=False, status=0, stderr=b""):
        self.body, self.before, self.after, self.cut = body, before, after, cut
        self.over, self.status, self.stderr = over, status, stderr
        self.requests = []

    def run(self, script, request, *, limit_s, max_bytes=0):  # noqa: ARG002
        self.requests.append(request)
        token = request.partition(b"\n")[0].removeprefix(b"frame ")
        frame = b"babysit-frame 1 %s %d %d\n%s\nbabysit-end %s\n" % (
            *(token, len(self.body), cksum(self.body)),
            *(self.body, token),
        )
        answer = (self.before + frame + self.after)[: self.cut]
        return Reply(self.status, answer, self.stderr, 0.5, self.over)


def section(name, content, status=0):
    return b"@ %s - %d %d\n%s\n" % (name.encode(), status, len(content), content)


def asked(link, pairs=(), payload=b""):
    return ask(link, ("frame",), pairs, where="gpu1", limit_s=5, payload=payload)


def test_sections_are_found_by_name_and_noise_is_counted():
    answer = asked(
        AnsweringLink(section("a", b"one\n") + section("b", b"x", 1), before=b"hello\n", after=b"bye")
    )
    assert answer.must("a").text == "one\n"
    assert (answer.word("a"), answer.word("b"), answer.word("c"), answer.get("c")) == (
        "one",
        None,
        None,
        None,
    )
    assert (answer.noise_bytes, answer.took_s, answer.where) == (6, 0.5, "gpu1")
    with pytest.raises(ProbeUnreadable, match="no section 'c'"):
        answer.must("c")


def test_the_payload_follows_the_request_untouched():
    link = AnsweringLink()
    asked(link, [("act", "put")], payload=b"\0\xff\nend\n")
    head, end, rest = link.requests[0].partition(b"\nend\n")
    assert head.splitlines()[1:] == [b"act put"]
    assert (end, rest) == (b"\nend\n", b"\0\xff\nend\n")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (2, BoxRefused),
        (3, NotFound),
        (12, ProbeUnreadable),
        (75, Busy),
        (0, ProbeUnreadable),
        (99, ProbeUnreadable),
    ],
)
def test_a_scripts_error_becomes_the_exception_of_its_status(status, kind):
    with pytest.raises(kind) as caught:
        asked(AnsweringLink(section("error", b"disk \x1b[31mfull\nline 1\nline 2", status)))
    assert type(caught.value) is kind
    assert (caught.value.what, caught.value.where) == (r"disk \x1b[31mfull", "gpu1")
    assert caught.value.hint == "line 1; line 2"


@pytest.mark.parametrize(
    ("link", "hint"),
    [
        (
            AnsweringLink(cut=0, status=127, stderr=b"sh: not found\n"),
            "exit status 127, it said: sh: not found",
        ),
        (AnsweringLink(cut=0, status=-1), "no exit status came, it said nothing"),
        (
            AnsweringLink(cut=0),
            "exit status 0, it said nothing; does ~/.bashrc there exit, or read what is sent?",
        ),
        (
            AnsweringLink(section("a", b"x" * 100), cut=90, over=True),
            "the answer is longer than 262144 bytes",
        ),
        (AnsweringLink(before=b"Account expired\n", cut=16), "exit status 0, it said: Account expired"),
    ],
)
def test_an_answer_without_a_whole_frame_says_what_came_instead(link, hint):
    with pytest.raises(ProbeUnreadable) as caught:
        asked(link)
    assert caught.value.hint == hint


def test_a_value_that_does_not_stay_on_its_line_is_never_sent():  # S17
    link = AnsweringLink()
    with pytest.raises(UsageError):
        asked(link, [("state", "a\nend")])
    assert link.requests == []


@pytest.mark.parametrize("name", ["train", "a", "A.b_c-1", "x" * 64, "0", "a..b"])
def test_plain_names_pass(name):  # S16
    assert checked_name(name, what="run name") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-x", "_x", "a/b", "a b", "a\n", "é", "x" * 65, "\u202ea", "$(id)", "`id`", ";id"]
)
def test_all_other_names_do_not(name):  # S16
    with pytest.raises(UsageError, match="not a run name"):
        checked_name(name, what="run name")
