"""Validators of both kinds: the one that runtimectl documents, and the one that its code calls.

How one is called is decided once, by its signature:

- `pair`: it takes (args, kwargs), a list and a dict, and gives both back. So is whatever names its first two
  parameters `args` and `kwargs`, or needs exactly two arguments by position.
- `spread`: it takes what the control would, `validate(*args, **kwargs)`. So is everything else, also a
  callable that has no signature (`int`).

What comes back of a spread one is the one argument of the control. One that takes `*args` may give a tuple,
the arguments (the keywords stay), or (arguments, dict). None is an error: a check that forgets to return must
not set a value to None.
"""

import inspect
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Validator(NamedTuple):
    """A validator and how it is called; `many`: it takes any number of arguments."""

    function: Callable[..., Any]
    pair: bool
    many: bool


def validator(function: Optional[Callable[..., Any]]) -> Optional[Validator]:
    """How `function` is called; None for none."""
    if function is None:
        return None
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return Validator(function, pair=False, many=False)
    by_place = [each for each in parameters if each.kind in _BY_PLACE]
    needed = sum(each.default is inspect.Parameter.empty for each in by_place)
    names = [each.name for each in by_place[:2]]
    many = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
    return Validator(function, pair=names == ["args", "kwargs"] or needed == 2, many=many)


def validated(
    check: Optional[Validator], args: List[Any], kwargs: Dict[str, Any]
) -> Tuple[Any, Dict[str, Any]]:
    """The arguments to apply. Raises TypeError for an answer that is none, and what the validator raises."""
    if check is None:
        return args, kwargs
    if check.pair:
        answer = check.function(args, kwargs)
        if not _is_pair(answer):
            raise TypeError("the validator returned %s, expected (args, kwargs)" % type(answer).__name__)
        return answer[0], answer[1]
    answer = check.function(*args, **kwargs)
    if check.many and _is_pair(answer):
        return answer[0], answer[1]
    if check.many and isinstance(answer, tuple):
        return answer, kwargs
    if answer is None:
        raise TypeError("the validator returned None, expected the value")
    return [answer], {}


def _is_pair(answer: Any) -> bool:
    return (
        isinstance(answer, (tuple, list))
        and len(answer) == 2
        and isinstance(answer[0], (list, tuple))
        and isinstance(answer[1], dict)
    )
