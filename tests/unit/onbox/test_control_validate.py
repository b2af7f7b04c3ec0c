# ruff: noqa: ARG005 - a control's form is given
import functools
import json
import operator

import pytest

from onbox.control import RuntimeController
from onbox.control.validate import validated, validator


class Checker:
    def one(self, v):
        return v + 1

    def pair(self, args, kwargs):
        return [args[0] + 1], kwargs

    def __call__(self, v):
        return v + 2


def refuses(v):
    raise ValueError("multiplier must be > 0")


def forgets(v):
    assert v


def between(v, low=0):
    return max(v, low)


def named(args, kwargs=None):
    return [args[0] * 2], kwargs


def three(a, b, c):
    return a + b + c


def keyword_only(*, label):
    return label.upper()


# (validator, args, kwargs of the command, what the control gets or the error)
RULES = {
    "none": (None, [1], {"a": 2}, ([1], {"a": 2})),
    "documented": (lambda v: v * 2, [2], {}, ([4], {})),
    "documented, by keyword": (lambda v: v * 2, [], {"v": 2}, ([4], {})),
    "documented, with a limit of its own": (between, [-3], {}, ([0], {})),
    "documented, a tuple is one value": (tuple, [[1, 2]], {}, ([(1, 2)], {})),
    "documented, a list is one value": (lambda v: [v], [1], {}, ([[1]], {})),
    "documented, a pair is one value": (lambda v: ([1], {"a": 2}), [1], {}, ([([1], {"a": 2})], {})),
    "real": (lambda args, kwargs: ([args[0] * 2], kwargs), [2], {"k": 1}, ([4], {"k": 1})),
    "real, other names": (lambda a, k: ((a[0],), dict(k)), [2], {"k": 1}, ((2,), {"k": 1})),
    "real, a list of two": (lambda a, k: [a, k], [2], {}, ([2], {})),
    "real, with a third": (lambda a, k, strict=True: (a, k), [2], {}, ([2], {})),
    "real, by its names": (named, [2], {"k": 1}, ([4], {"k": 1})),
    "any": (lambda *args, **kwargs: (args, kwargs), [1, 2], {"k": 3}, ((1, 2), {"k": 3})),
    "any, a tuple": (lambda *args: args[::-1], [1, 2], {}, ((2, 1), {})),
    "any, a tuple keeps the keywords": (lambda *args, **kwargs: args, [1], {"k": 3}, ((1,), {"k": 3})),
    "any, one value": (lambda *args, **kwargs: sum(args), [1, 2], {}, ([3], {})),
    "any, a list is one value": (lambda *args: [1, 2], [1], {}, ([[1, 2]], {})),
    "three": (three, [1, 2, 3], {}, ([6], {})),
    "keywords": (keyword_only, [], {"label": "a"}, (["A"], {})),
    "no signature": (int, ["7"], {}, ([7], {})),
    "float": (float, [1], {}, ([1.0], {})),
    "a bound method": (Checker().one, [1], {}, ([2], {})),
    "a bound method of two": (Checker().pair, [1], {}, ([2], {})),
    "an object": (Checker(), [1], {}, ([3], {})),
    "a partial": (functools.partial(operator.mul, 3), [2], {}, ([6], {})),
    "False is a value": (lambda v: False, [1], {}, ([False], {})),
    "refuses": (refuses, [-1], {}, "multiplier must be > 0"),
    "forgets": (forgets, [1], {}, "the validator returned None, expected the value"),
    "real, forgets": (lambda a, k: None, [1], {}, "the validator returned NoneType, expected (args, kwargs)"),
    "real, a value": (lambda a, k: 3, [1], {}, "the validator returned int, expected (args, kwargs)"),
    "real, swapped": (lambda a, k: (k, a), [1], {}, "the validator returned tuple, expected (args, kwargs)"),
    "too many": (lambda v: v, [1, 2], {}, "takes 1 positional argument but 2 were given"),
    "nothing to check": (lambda v: v, [], {}, "missing 1 required positional argument"),
    "no function": (3, [1], {}, "'int' object is not callable"),
}


@pytest.mark.parametrize(("function", "args", "kwargs", "expected"), RULES.values(), ids=RULES)
def test_how_validators_are_called_and_what_their_answer_is(function, args, kwargs, expected):
    check = validator(function)
    if isinstance(expected, str):
        with pytest.raises((TypeError, ValueError)) as found:
            validated(check, args, kwargs)
        assert expected in str(found.value)
    else:
        assert validated(check, args, kwargs) == expected


@pytest.mark.parametrize(("function", "args", "kwargs", "expected"), RULES.values(), ids=RULES)
def test_the_queue_says_what_the_validator_made_of_it(tmp_path, function, args, kwargs, expected):
    got = []
    program = RuntimeController(tmp_path)
    program.register("it", lambda ctx, *a, **k: got.append((a, k)), function)
    RuntimeController.enqueue(tmp_path, "it", args, kwargs)
    (ack,) = program.poll_and_apply(None, 0)
    if isinstance(expected, str):
        assert ack["status"] == "failed" and expected in ack["error"] and got == []
    else:
        assert ack["status"] == "applied" and got == [(tuple(expected[0]), expected[1])]
        assert [ack["args"], ack["kwargs"]] == json.loads(json.dumps(expected))
    assert program.faults == 0
