"""The words in which the table's rows speak of loops. Pure; closed words and figures only."""

import re
from pathlib import PurePosixPath

from fleet.text.quote import sh
from fleet.text.say import duration
from patrol import pace
from patrol.case import Case

_KINDS = {"loopmonitor": "loopmonitor", "R": "loopmonitor in R"}
# The name that a snapshot of ours has: our words, a pid, a moment, a number. Any other is the box's text.
_SNAPSHOT = re.compile(r"loopmonitor_break_[0-9]{1,9}_[0-9TZ]{1,20}(?:[_-][0-9]{1,9})?\.json")


def kind_of(kind: str) -> str:
    """Whose a loop is that is not ours."""
    return _KINDS.get(kind, "another kind")


class LoopWords:
    """What a case's loops say of themselves. An empty word leaves its piece out."""

    _case: Case

    @property
    def state_age(self) -> str:
        """How old the state of a loop is that is not ours, where its pace does not explain it."""
        first = next(iter(self._case.loops), None)
        if first is None or first.state_age_s is None or first.paused:
            return ""
        return f"{kind_of(first.kind)}'s state is {duration(first.state_age_s)} old"

    @property
    def held(self) -> str:
        """That somebody paused the loop: it takes no step until it is resumed."""
        return "its loop is paused" if pace.held(self._case) else ""

    @property
    def let_go(self) -> str:
        """The command that lets a paused loop go on; one that does not know its run is named by its pid."""
        if not pace.held(self._case):
            return ""
        run, first = self._case.run, self._case.loops[0]
        which = str(first.pid) if first.tag is None else f"--run {sh(run.name)}"
        return f"babysit ipc {sh(run.box.name)} resume {which}"

    @property
    def broken(self) -> str:
        """That the loop was asked to break off, where it did, and the stage's status where that differs."""
        loop, end = self._case.broken_off, self._case.end
        if loop is None or end is None:
            return ""
        at = "" if loop.iteration is None else f" after iteration {loop.iteration}"
        other = "" if end.rc == loop.exit_code else f", whose launcher made {end.rc} of {loop.exit_code}"
        return f"stopped on request by break{at} of stage {self._case.stage_label(loop.stage)}{other}"

    @property
    def snapshot(self) -> str:
        """Its snapshot: the name where that is of our making, the folder where it is the run's own."""
        loop = self._case.broken_off
        if loop is None or loop.saved is None:
            return ""
        path, cwd = PurePosixPath(loop.saved), self._case.run.spec.cwd
        if not _SNAPSHOT.fullmatch(path.name):
            return "a snapshot was saved"
        here = cwd is not None and path.parent == PurePosixPath(cwd)
        return f"snapshot {path.name}" + (" in its working folder" if here else "")
