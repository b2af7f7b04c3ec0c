"""What can be asked of loops, and how it stands on the tool's command line. Pure."""

from typing import NamedTuple

from msgspec import Struct

from fleet.errors import UsageError


class Verb(NamedTuple):
    """`acts`: it changes a loop. `by_yes`: it stops or holds one, so that a program must be told to.

    `takes` names the word it needs besides its target. `untargeted`: it is about all there is.
    """

    acts: bool = False
    by_yes: bool = False
    takes: str = ""
    untargeted: bool = False


VERBS: dict[str, Verb] = {
    "list": Verb(untargeted=True),
    "peek": Verb(),
    "tail": Verb(),
    "plot": Verb(),
    "memory": Verb(),
    "stack": Verb(),
    "notify": Verb(takes="EXPR"),
    "set": Verb(acts=True, takes="KEY=VALUE"),
    "checkpoint": Verb(acts=True),
    "continue": Verb(acts=True, by_yes=True),
    "break": Verb(acts=True, by_yes=True),
    "pause": Verb(acts=True, by_yes=True),
    "resume": Verb(acts=True),
    "clean": Verb(acts=True, untargeted=True),
}
ACTING = tuple(name for name, verb in VERBS.items() if verb.acts)
_SEVERAL = ("peek",)  # of which several answers are no surprise


class Question(Struct, frozen=True):
    """One question. `target` None: the one loop there is, or those of the run with `tag`."""

    verb: str
    target: str | None
    argument: str | None = None
    options: tuple[str, ...] = ()
    tag: str | None = None
    wait_s: float = 10.0

    def words(self) -> tuple[str, ...]:
        """The tool's command line; what was typed comes after `--`, so that no word of it is an option."""
        flags = ["--json", "--wait", f"{self.wait_s:g}", *self.options]
        if self.tag is not None:
            flags += ["--tag", self.tag]
        if VERBS[self.verb].untargeted:
            return ("ipc", self.verb, *flags)
        if self.target is None and self.tag is None and self.verb not in _SEVERAL:
            flags.append("--only")
        rest = () if self.argument is None else (self.argument,)
        return ("ipc", self.verb, *flags, "--", "all" if self.target is None else self.target, *rest)

    def text(self, box: str) -> str:
        """The command as a person reads it in a list of what was done: `ipc set train lr=0.1 on gpu1`."""
        said = (word for word in (self.target, self.argument) if word)
        return " ".join(["ipc", self.verb, *said, "on", box])


def parted(verb: str, words: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Target and argument among the words typed after `verb`. Raises UsageError, naming what fits."""
    kind = VERBS[verb]
    least = 1 if kind.takes else 0
    most = 0 if kind.untargeted else least + 1
    if not least <= len(words) <= most:
        fits = " ".join(["" if kind.untargeted else "[TARGET]", kind.takes]).strip()
        raise UsageError(
            f"{verb} takes {fits or 'no word'}, not {len(words)} words",
            where=verb,
            hint="a value with spaces or quotes is one word: 'name=[1, 2]'" if kind.takes else "",
            next=("babysit ipc --help",),
        )
    argument = words[-1] if kind.takes else None
    target = words[0] if len(words) > least else None
    if target == "":  # of a variable that is not set: it must not come to mean every loop
        raise UsageError(
            f"the target of {verb} is empty: left out it is the one loop there is, `all` is every loop",
            where=verb,
            next=("babysit ipc --help",),
        )
    return target, argument
