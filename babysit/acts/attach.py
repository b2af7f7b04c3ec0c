"""Into a run's tmux window: is there one, and the command by which the user's own ssh goes there."""

from babysit.acts.here import Here
from babysit.acts.visit import boxes_of, opened
from fleet.arming.ask import ask, checked_name
from fleet.errors import NotFound, ProbeUnreadable
from fleet.model.run import Run
from fleet.model.spec import BoxSpec
from fleet.text.quote import sh

_FRAGMENTS = ("frame", "ground", "records", "attach")
_LIMIT_S = 20.0
_NO_TMUX = 127


def window_command(place: Here, run: Run, *, write: bool) -> tuple[str, ...]:
    """The words of the ssh command that shows the run's window; read-only unless `write`.

    Asks the box first. Raises NotFound when there is no such window, saying why, ProbeUnreadable, LinkError.
    """
    with place.ledger_to_look() as (ledger, unwritable):
        box = boxes_of((run,), place.spec)[run.box.name]
        with opened(ledger, box, keep=unwritable is None) as link:
            pairs = [("state", run.box.state_dir or "-"), ("id", checked_name(run.run_id, what="run id"))]
            answer = ask(link, _FRAGMENTS, pairs, where=run.box.name, limit_s=_LIMIT_S)
    session, how = answer.must("session"), answer.must("how").text
    if session.status != 0:
        raise NotFound(
            f"no tmux window of {run.name} on {box.name}: {_why(how, no_tmux=session.status == _NO_TMUX)}",
            where=run.name,
            hint="its output is in its log in any case",
            next=(f"babysit logs {run.box.name} {run.name} -f",),
        )
    if session.text != session_of(run.run_id):
        raise ProbeUnreadable("the box named another tmux session than the run's", where=box.name)
    return ssh_words(box, run.run_id, write=write)


def session_of(run_id: str) -> str:
    """What the run's tmux session is called; tmux takes a dot in a name away."""
    return f"babysit-{run_id.replace('.', '_')}"


def ssh_words(box: BoxSpec, run_id: str, *, write: bool) -> tuple[str, ...]:
    """`ssh -t … HOST COMMAND`: the user's own ssh, with what babysit.toml says of the box."""
    read_only = "" if write else "-r "
    # For sh whatever the login shell is: to zsh a word that begins with = means something else.
    line = f"exec tmux -L babysit attach-session {read_only}-t {sh('=' + session_of(run_id))}"
    words = ["ssh", "-t"]
    if box.port is not None:
        words += ["-p", str(box.port)]
    if box.user is not None:
        words += ["-l", box.user]
    if box.identity is not None:
        words += ["-i", box.identity]
    return (*words, "--", box.host, f"exec sh -c {sh(line)}")


def _why(how: str, *, no_tmux: bool) -> str:
    if how == "-":
        return "it was never started there"
    if how != "tmux":
        return f"it was started by {how}"
    if no_tmux:
        return "the box has no tmux any more"
    return "it has ended, or somebody closed the window; the run itself does not live in it"
