"""init: a first babysit.toml, and a first look at its box."""

import sys
from pathlib import Path
from typing import Any

import click

from babysit.verbs import speak
from babysit.verbs.patrol import JSON_OPTION
from fleet.errors import NeedsApproval


@click.command()
@click.option("--box", metavar="NAME", help="What the box is called here; an alias of ssh_config will do.")
@click.option("--host", metavar="HOST", help="Its address, where NAME is no alias.")
@click.option("--user", metavar="USER")
@click.option("--port", type=click.IntRange(1, 65535))
@click.option("--identity", metavar="FILE", help="The private key to log in with.")
@click.option("--run", metavar="NAME", help="Also a run of this name; its command follows after --.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--fingerprint", metavar="SHA256:...", help="The host key you expect; nothing is asked then.")
@click.option("--yes", is_flag=True, help="Write without asking. (A host key still needs its fingerprint.)")
@click.option("--no-test", is_flag=True, help="Only write; leave the box alone.")
@JSON_OPTION
@click.pass_context
def init(
    context: click.Context,
    /,
    *,
    fingerprint: str | None,
    yes: bool,
    no_test: bool,
    as_json: bool,
    **words: Any,
) -> int:
    """Write a commented babysit.toml into this folder and test its box.

    Asks at a terminal, takes options elsewhere. A file that is there is never replaced: what would have
    been written is printed instead.
    """
    from babysit.acts import init as act
    from babysit.acts.here import here

    path = act.target()
    there = path.exists() or path.is_symlink()
    if there and words["box"] is None and words["host"] is None:
        raise act.there_already(path)
    asks = speak.at_a_terminal() and not (yes or as_json or there)
    wished = act.wish(**(_asked(words, act.aliases()) if asks else words))
    text, drafted = act.draft(wished, path)
    box = drafted.boxes[wished.box.name]
    said = _Said(as_json, box.name, path, text, wished.run)
    if there:
        return said.refused(act.there_already(path, shown=True))
    if asks:
        speak.line(text)
        if not click.confirm(f"Write this to {path}?", default=True, err=True):
            raise NeedsApproval(
                "it was not confirmed; nothing was written", where=str(path), next=("babysit init",)
            )
    act.write(path, text)
    said.wrote(act.covers(path))
    if no_test:
        return said.end(None)
    place, program = here(str(path)), Path(sys.argv[0]).absolute()
    if fingerprint is not None:
        from babysit.acts.trust import confirm

        with place.ledger() as ledger:
            confirm(ledger, box, fingerprint)
    tested = act.try_box(place, box, program)
    if tested.stranger is not None and asks:
        from babysit.verbs.trust import trust

        context.invoke(trust, box=box.name, fingerprint=None, spec=str(path))
        tested = act.try_box(place, box, program)
    return said.end(tested)


def _asked(words: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """`words` with what is missing asked for; what was given is not asked again."""
    words = dict(words)
    if words["box"] is None and words["host"] is None:
        if known:
            speak.note(f"Hosts in your ssh_config: {', '.join(known)}")
        words["box"] = click.prompt(
            "Box (such a host, or a name of your own)",
            default=next(iter(known), None),
            value_proc=_name,
            err=True,
        )
    if words["host"] is None and words["box"] not in known:
        words["host"] = click.prompt("Its address", default=words["box"], err=True)
        words["user"] = (
            words["user"]
            or click.prompt("User there (empty: as ssh does it)", default="", show_default=False, err=True)
            or None
        )
    if words["run"] is None and not words["command"]:
        words["run"] = (
            click.prompt(
                "Name of a job (empty: later)", default="", show_default=False, value_proc=_name, err=True
            )
            or None
        )
    if words["run"] is not None and not words["command"]:
        words["command"] = (click.prompt("Its command, as you would type it there", err=True),)
    return words


def _name(typed: str) -> str:
    """What was typed, when it can be a name or is nothing. Else the question is asked again."""
    from fleet.spec.decode import NAME_RULE, is_name

    if typed and not is_name(typed):
        raise click.UsageError(NAME_RULE)
    return typed


class _Said:
    """What is told on the way: lines for a person, or one document at the end."""

    def __init__(self, as_json: bool, box: str, path: Path, text: str, run: str | None) -> None:  # noqa: FBT001 - one caller
        from fleet.text.quote import sh

        self._json = as_json
        self._path = path
        self._content: dict[str, Any] = {
            "schema": "babysit.init/1",
            "ok": True,
            "exit_code": 0,
            "path": str(path),
            "written": False,
            "text": text,
            "box": box,
            "run": run,
            "lines": [],
            "next": [],
        }
        self._arm = f"babysit arm {sh(box)} {sh(run)}" if run else f"babysit arm {sh(box)} train -- COMMAND"
        self._doctor = f"babysit doctor {sh(box)}"

    def refused(self, error: Any) -> int:
        """There is a file: show what it would have been. Raises `error` where prose is wanted."""
        if not self._json:
            speak.line(self._content["text"])
            raise error
        return self._close(error.exit_code, error.next, what=error.what)

    def wrote(self, covered: Path | None) -> None:
        """The file is there now."""
        self._content["written"] = True
        if not self._json:
            speak.prose(f"wrote {self._path}")
        if covered is not None:
            speak.note(f"note: in this folder it takes the place of {covered}")

    def end(self, tested: Any) -> int:
        """The findings, and the one next command; returns the exit code."""
        from babysit.acts.doctor import show
        from babysit.acts.doctor.lines import exit_code_of
        from fleet.text.quote import sh

        if tested is None:
            return self._close(0, (self._doctor, self._arm))
        lines = tested.found.lines
        self._content["lines"] = [show.shaped(line) for line in lines]
        if not self._json:
            for line in show.lines(lines):
                speak.line(line)
        code = exit_code_of(lines)
        if tested.stranger is not None:
            offered = tested.stranger.away.offered
            trust = f"babysit trust {sh(self._content['box'])} --fingerprint {offered}"
            return self._close(
                code, (trust, self._doctor), what="compare the key with the provider's console first"
            )
        return self._close(code, (*tested.fixes, self._doctor) if code else (self._arm,))

    def _close(self, code: int, following: tuple[str, ...], *, what: str | None = None) -> int:
        self._content |= {"ok": code == 0, "exit_code": code, "next": list(following)}
        if what is not None:
            self._content["what"] = what
        if self._json:
            speak.document(self._content)
            return code
        if what is not None:
            speak.note(what)
        for command in following:
            speak.line(f"next: {command}")
        return code
