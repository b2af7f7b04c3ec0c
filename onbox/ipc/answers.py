"""What a command found out about each loop, and the exit code that says it in one number."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

OK, USAGE, NO_LOOP, REFUSED, DIED, SILENT = 0, 2, 3, 22, 23, 124
_FIRST = (DIED, REFUSED, SILENT, NO_LOOP)
SCHEMA = "onbox.ipc/1"


class Answer(NamedTuple):
    """One loop's part. `confirmed`: seen to be so, not only sent; `says` is one harmless sentence."""

    pid: int
    label: str
    kind: str
    n: int
    exit_code: int
    says: str
    tag: Optional[str] = None
    confirmed: bool = False
    reply: Optional[Dict[str, Any]] = None


class Trouble(Exception):  # noqa: N818 - reads as what happened
    """The whole command ends here: a code for programs, what happened, and what to do next."""

    def __init__(self, exit_code: int, code: str, what: str, next_step: str = "") -> None:
        super().__init__(what)
        self.exit_code, self.code, self.what, self.next_step = exit_code, code, what, next_step


def exit_code(answers: Sequence[Answer]) -> int:
    """The gravest of the answers' codes, 0 for none."""
    found = {answer.exit_code for answer in answers}
    return next((code for code in _FIRST if code in found), OK)


def document(verb: str, answers: Sequence[Answer], trouble: Optional[Trouble] = None) -> Dict[str, Any]:
    """The whole outcome as programs read it."""
    code = exit_code(answers) if trouble is None else trouble.exit_code
    error = trouble and {"code": trouble.code, "what": trouble.what, "next": trouble.next_step}
    return {
        "schema": SCHEMA,
        "verb": verb,
        "ok": code == OK,
        "exit_code": code,
        "answers": [_pairs(answer) for answer in answers],
        "error": error or None,
    }


def _pairs(answer: Answer) -> Dict[str, Any]:
    order: List[str] = ["pid", "label", "kind", "n", "exit_code", "tag", "confirmed", "reply", "says"]
    said = answer._asdict()
    return {key: said[key] for key in order}
