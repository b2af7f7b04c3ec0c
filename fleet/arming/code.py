"""What code a run starts with: what its box is asked, what came back, and what changed since."""

import re
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from fleet.arming.ask import Answer, ask, checked_name
from fleet.errors import ProbeUnreadable
from fleet.link.base import Link
from fleet.model.run import Code, CodeFile, Run
from fleet.model.spec import RunSpec
from fleet.text.boxjson import from_box
from fleet.text.say import plural
from fleet.text.untrusted import render_untrusted

CODE_FILE = "code.json"
CODE_BYTES_MAX = 64 * 1024
_FRAGMENTS = ("frame", "ground", "code")
_LIMIT_S = 30.0
_WORDS_MAX = 100
_LINES_MAX = 12  # what a person reads before a yes
_FOLDER_CHARS = 200
_ATTEMPT_MAX = 10**6
_LEFT_OUT_MAX = 10**10

# Words are cut where a shell, or `--config=x.yaml`, would cut them; what is no plain path names no script.
_BETWEEN = re.compile(r"[\s;&|<>()'\"`=,]+")
_WORD = re.compile(r"(?!-)[A-Za-z0-9_./~+@%-]{1,200}")
_ENTERS = re.compile(r"""\s*cd\s+(?:--\s+)?(['"]?)([A-Za-z0-9_./~+@% -]+?)\1\s*(?:&&|;|\n)""")
_FILE_LIKE = re.compile(r"[./]")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|cksum:\d{1,10}-\d{1,20}")
_NOT_HASHED = {
    "large": "too large to be hashed with the others",
    "unread": "could not be read",
    "late": "not hashed: the time for it was over",
    "none": "matches no file",
}
_GIT_FAILED = 3
_NO_GIT = {1: "no git on the box", 2: "no git repository"}


class CodeNews(Struct, frozen=True):
    """What is to be said of a run's code before its next start, one phrase each. `changed` None: unknown."""

    changed: bool | None
    says: tuple[str, ...]


def code_pairs(spec: RunSpec) -> list[tuple[str, str]]:
    """The request lines of `templates/box/code.sh`: the folder to look in, then scripts and globs."""
    pairs = [("codedir", _folder(spec))]
    pairs += [("file", f"word {word}") for word in script_words(spec)]
    return pairs + [("file", f"glob {glob}") for glob in spec.code]


def script_words(spec: RunSpec) -> tuple[str, ...]:
    """The words of all stages that can be names of files, as seen from the run's folder, each once."""
    found: dict[str, None] = {}
    for stage in spec.stages:
        folder = _folder(spec, stage.command)
        words = [word for word in _BETWEEN.split(stage.command) if _WORD.fullmatch(word)]
        # In a long command the names of files come before words that hardly can be some.
        for word in sorted(words, key=lambda word: _FILE_LIKE.search(word) is None):
            named = folder == _folder(spec) or word.startswith(("/", "~/"))
            found[word if named else f"{_from_home(folder)}/{word}"] = None
    return tuple(found)[:_WORDS_MAX]


def read_code(answer: Answer, spec: RunSpec) -> Code | None:
    """What the box showed, as of attempt 1; None where the folder cannot be entered."""
    folder = answer.word("code_dir")
    if folder is None:
        return None
    git = answer.get("git")
    commit, _, state = (answer.word("git") or "").partition(" ")
    why = _NO_GIT.get(git.status if git else 0, "git gave no answer")
    if git is not None and git.status == _GIT_FAILED:
        why = f"git failed: {render_untrusted(git.text, 120)}"
    known = _COMMIT.fullmatch(commit) is not None
    lines = (answer.get("code_files") or answer.must("code_dir")).text.splitlines()
    files = [_file(line) for line in lines] if answer.get("code_files") else []
    more = next((line.split()[1] for line in lines if re.fullmatch(r"more \d{1,9}", line)), "0")
    return Code(
        attempt=1,
        folder=folder[:_FOLDER_CHARS],
        commit=commit if known else None,
        dirty={"clean": False, "dirty": True}.get(state) if known else None,
        git_why="" if known else why,
        hasher=answer.word("hasher"),
        files=tuple(file for file in files if file is not None),
        left_out=int(more),
        globs=spec.code,
    )


def look_at_code(link: Link, run: Run, *, limit_s: float = _LIMIT_S) -> tuple[Code | None, Code | None]:
    """What `run` would start with now, and what its box has down for its last start; each None if not known.

    Raises ProbeUnreadable, LinkError.
    """
    pairs = [
        ("act", "code"),
        ("state", run.box.state_dir or "-"),
        ("id", checked_name(run.run_id, what="run id")),
        *code_pairs(run.spec),
    ]
    answer = ask(link, _FRAGMENTS, pairs, where=run.box.name, limit_s=limit_s)
    kept = answer.get("code_known")
    return read_code(answer, run.spec), None if kept is None else decode_code(kept.content)


def encode_code(code: Code) -> bytes:
    """`code` as its file in the run's folder on the box; of too many files the first ones."""
    content = msgspec.json.format(msgspec.json.encode(code), indent=1) + b"\n"
    if len(content) <= CODE_BYTES_MAX:
        return content
    kept = code.files[: len(code.files) // 2]
    left_out = code.left_out + len(code.files) - len(kept)
    return encode_code(msgspec.structs.replace(code, files=kept, left_out=left_out))


def decode_code(content: bytes) -> Code | None:
    """The same read back; None for what is damaged or too long. A key that we do not know is passed over."""
    try:
        code = from_box(content, Code, max_bytes=CODE_BYTES_MAX, where="", what=CODE_FILE)
    except ProbeUnreadable:
        return None
    digests = [file.digest for file in code.files if file.digest is not None]
    sound = (
        0 < code.attempt < _ATTEMPT_MAX
        and 0 <= code.left_out < _LEFT_OUT_MAX
        and (code.commit is None or _COMMIT.fullmatch(code.commit) is not None)
        and all(_DIGEST.fullmatch(digest) for digest in digests)
    )
    return code if sound else None


def code_says(code: Code) -> str:
    """One line: `git 9e1c7aa (clean), 14 files hashed`."""
    hashed = sum(file.digest is not None for file in code.files)
    parts = [_git(code), f"{plural(hashed, 'file')} hashed"]
    weak = any((file.digest or "").startswith("cksum:") for file in code.files)
    if weak:
        parts.append("by cksum, which tells a mistake but no forgery")
    if code.left_out:
        parts.append(f"{code.left_out} more were not")
    return ", ".join(parts)


def code_remarks(code: Code) -> tuple[str, ...]:
    """What was named and could not be hashed, one phrase each."""
    odd = [render_untrusted(f"{file.path} {file.why}", 200) for file in code.files if file.digest is None]
    return _shortened(odd)


def code_changes(then: Code, now: Code) -> tuple[str, ...]:
    """What is another than at the attempt of `then`, one phrase each; empty when nothing seems to differ."""
    before, after = _by_path(then), _by_path(now)
    found: list[str] = []
    for path in dict.fromkeys((*before, *after)):
        if then.globs != now.globs and (path not in before or path not in after):
            continue  # looked for since, or no longer: that says nothing of the file
        says = _changed(before.get(path), after.get(path), then.attempt)
        if says:
            found.append(f"{render_untrusted(path, 200)} {says}")
    if then.commit != now.commit:
        if then.commit and now.commit:
            found.append(f"git {then.commit[:7]} → {now.commit[:7]}{_state(now)}")
        else:
            found.append(f"{_git(then)} → {_git(now)}")
    elif now.commit and then.dirty is False and now.dirty:
        found.append(f"git {now.commit[:7]}: clean → dirty")
    elif now.commit and then.dirty and now.dirty is False:
        found.append(f"git {now.commit[:7]}: dirty → clean")
    return _shortened(found)


def compared(then: Code | None, now: Code | None) -> CodeNews:
    """What a person has to know of the code before a start."""
    if now is None:
        return CodeNews(None, ("not looked at: the run's folder on the box cannot be entered",))
    if then is None:
        return CodeNews(None, (f"what the last attempt ran was not written down; now {code_says(now)}",))
    changes = code_changes(then, now)
    if changes:
        return CodeNews(changed=True, says=changes)
    return CodeNews(changed=False, says=(f"as at attempt {then.attempt}: {code_says(now)}",))


def _folder(spec: RunSpec, command: str | None = None) -> str:
    """Where `command` (None: the first stage's) works: the run's folder, or the one it enters at once."""
    match = _ENTERS.match(spec.stages[0].command if command is None else command)
    if match is None:
        return spec.cwd or "~"
    entered = match[2].rstrip("/") or "/"
    return f"{spec.cwd}/{entered}" if spec.cwd and not entered.startswith(("/", "~")) else entered


def _from_home(folder: str) -> str:
    return folder if folder.startswith(("/", "~")) else f"~/{folder}"


def _file(line: str) -> CodeFile | None:
    word, _, path = line.partition(" ")
    if not path or word == "more":
        return None
    if _DIGEST.fullmatch(word):
        return CodeFile(path, word)
    return CodeFile(path, None, _NOT_HASHED.get(word, "could not be read"))


def _git(code: Code) -> str:
    return f"git {code.commit[:7]}{_state(code)}" if code.commit else render_untrusted(code.git_why, 160)


def _state(code: Code) -> str:
    return {True: " (dirty)", False: " (clean)", None: " (clean or not: git did not say)"}[code.dirty]


def _by_path(code: Code) -> dict[str, CodeFile]:
    return {file.path: file for file in code.files}


def _changed(then: CodeFile | None, now: CodeFile | None, attempt: int) -> str:
    if then is None or now is None:
        hashed = then or now
        if hashed is None or hashed.digest is None:
            return ""
        return f"is gone since attempt {attempt}" if now is None else f"is new since attempt {attempt}"
    if then.digest == now.digest:
        return ""
    if then.digest is None or now.digest is None:
        return f"cannot be compared with attempt {attempt}: {render_untrusted(then.why or now.why, 80)}"
    (kind, _, old), (same, _, new) = then.digest.partition(":"), now.digest.partition(":")
    if kind != same:
        return f"cannot be compared with attempt {attempt}: {kind} then, {same} now"
    return f"changed since attempt {attempt}: {old[:4]}… → {new[:4]}…"


def _shortened(phrases: Sequence[str]) -> tuple[str, ...]:
    def cut() -> Iterator[str]:
        yield from phrases[:_LINES_MAX]
        if len(phrases) > _LINES_MAX:
            yield f"and {len(phrases) - _LINES_MAX} more"

    return tuple(cut())
