"""The command lines that we may show: a closed set, every value in them one quoted word. Pure."""

from fleet.model.verdict import Health, Verdict
from fleet.text import quote
from handbook.facts import HandbookFacts

_ENDED = {Health.FAILED: ":failed", Health.STOPPED: ":stopped"}


def adopt(facts: HandbookFacts) -> str:
    """The first command anywhere: pins the box by its fingerprint, adopts the run, says what is true."""
    at = f"[{facts.host}]" if ":" in facts.host else facts.host
    words = ["babysit resume", quote.sh(facts.name), "--at", quote.sh(f"{_login(facts)}{at}:{facts.port}")]
    if facts.identity is not None:
        words += ["--identity", path(facts.identity)]
    if facts.fingerprint is not None:
        words += ["--fingerprint", quote.sh(facts.fingerprint)]
    if facts.state_dir is not None:
        words += ["--state-dir", quote.sh(facts.state_dir)]  # a path of the box: not for this shell to expand
    return " ".join(words)


def arm(box: str, run: str) -> str:
    """Goes on with an arming that was cut; what was started is not started again."""
    return f"babysit arm {quote.sh(box)} {quote.sh(run)}"


def look(box: str, run: str) -> str:
    """Says what is true of an adopted run; starts nothing."""
    return f"babysit resume {quote.sh(box)} {quote.sh(run)}"


def carry_on(box: str, run: str) -> str:
    """Continues the run, if nothing of it lives and the budget has a start left."""
    return f"babysit resume {quote.sh(box)} {quote.sh(run)} --yes"


def stop(box: str, run: str) -> str:
    """Ends what is proven the run's, and stamps it stopped."""
    return f"babysit stop {quote.sh(box)} {quote.sh(run)}"


def watch(box: str, run: str) -> str:
    """Waits for the run's end or trouble."""
    return f"babysit watch {quote.sh(box)} {quote.sh(run)}"


def logs(box: str, run: str) -> str:
    """Shows the run's newest log lines."""
    return f"babysit logs {quote.sh(box)} {quote.sh(run)}"


def usage(box: str, run: str) -> str:
    """Shows what the run's watched stages used."""
    return f"babysit usage {quote.sh(box)} {quote.sh(run)}"


def tail_log(facts: HandbookFacts) -> str:
    """The log's last lines, by plain ssh."""
    return ssh(facts, f"tail -n 50 {path(facts.folder + '/run.log')}")


def read_records(facts: HandbookFacts) -> str:
    """Every record of the run but its nonce, by plain ssh."""
    return ssh(facts, f"cd {path(facts.folder)} && grep -v ^nonce= attempt end markers/*")


def start_by_hand(facts: HandbookFacts) -> str:
    """The chain, started by plain ssh, quoting what its records said last."""
    chain = path(f"{facts.folder}/{facts.chain}")
    return ssh(facts, f"sh {chain} {quote.sh(expected(facts.verdict))}")


def show_results(facts: HandbookFacts) -> str | None:
    """The result files, by plain ssh; None when the run names none."""
    files = " ".join(path(_beneath(facts.cwd, result)) for result in facts.results)
    return ssh(facts, f"cat {files}") if files else None


def ssh(facts: HandbookFacts, remote: str) -> str:
    """Plain ssh for the shell line `remote`; -n, so that it takes nothing from our standard input."""
    words = [f"ssh -n -p {facts.port}"]
    if facts.identity is not None:
        words += ["-i", path(facts.identity)]
    return " ".join([*words, quote.sh(_login(facts) + facts.host), quote.sh(remote)])


def expected(verdict: Verdict | None) -> str:
    """What the records said of the last attempt, as the chain wants it quoted: `0`, `2`, `2:failed`."""
    if verdict is None or verdict.attempt is None:
        return "0"
    # A loop that was broken off is a run that was stopped, but its end record says failed.
    health = Health.FAILED if verdict.broken is not None else verdict.health
    return f"{verdict.attempt}{_ENDED.get(health, '')}"


def path(text: str) -> str:
    """A path as one word; a leading `~/` stays for the shell to expand."""
    if text == "~":
        return "~"
    if text.startswith("~/"):
        return "~/" + (quote.sh(text[2:]) if text[2:] else "")
    return quote.sh(f"./{text}" if text.startswith("-") else text)


def _login(facts: HandbookFacts) -> str:
    return "" if facts.user is None else f"{facts.user}@"


def _beneath(folder: str | None, file: str) -> str:
    if folder is None or file.startswith(("/", "~/")):
        return file
    return f"{folder.rstrip('/')}/{file}"
