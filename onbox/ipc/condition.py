"""What `notify` waits for: a small grammar of its own, read into a tree that we walk ourselves.

Names, numbers, text, `+ - * / %`, comparisons, `and or not`, `abs min max len isnan`; nothing else.
"""

import ast
import math
import operator
import warnings
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Type

MAX_CHARS = 500
MAX_PARTS = 100
_BRACKETS = 50
_BITS = 4096  # of a whole number: a product of tracked ones must not grow without end

_ARITHMETIC: Dict[Type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_SIGNS: Dict[Type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_COMPARISONS: Dict[Type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS = ("abs", "isnan", "len", "max", "min")
_GRAMMAR = "names, numbers, text, + - * / %, comparisons, and or not, abs min max len isnan"


class BadCondition(ValueError):  # noqa: N818 - reads as what happened
    """The text is no condition; the sentence says what stands in it that may not."""


class Verdict(NamedTuple):
    """Whether a condition is met now; `why_not` says what keeps it from being judged at all."""

    met: bool
    why_not: Optional[str] = None


class Condition(NamedTuple):
    """A checked condition and the names that it needs."""

    text: str
    tree: ast.expr
    names: FrozenSet[str]

    def judged(self, values: Mapping[str, Any]) -> Verdict:
        """Met or not by `values`; a name without a value, or a value of the wrong kind, makes it not met."""
        missing = sorted(name for name in self.names if values.get(name) is None)
        if missing:
            return Verdict(met=False, why_not="not tracked yet: %s" % ", ".join(missing))
        try:
            value = _value(self.tree, values)
        except _Odd as odd:
            return Verdict(met=False, why_not=str(odd))
        return Verdict(met=_truth(value))


class _Odd(Exception):  # noqa: N818 - reads as what happened
    """The values cannot be put together as the condition wants."""


def condition(text: str) -> Condition:
    """The condition that `text` says. Raises BadCondition."""
    if len(text) > MAX_CHARS:
        raise BadCondition("longer than %d characters" % MAX_CHARS)
    if sum(map(text.count, "([{")) > _BRACKETS:  # the parser of 3.8 complains on standard error by itself
        raise BadCondition("more than %d brackets" % _BRACKETS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        raise BadCondition("not an expression; it may hold %s" % _GRAMMAR) from None
    names: List[str] = []
    left = MAX_PARTS
    waiting: List[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        left -= 1
        if left < 0:
            raise BadCondition("more than %d parts" % MAX_PARTS)
        waiting += _parts(node, names)
    return Condition(text.strip(), tree, frozenset(names))


def _parts(node: ast.AST, names: List[str]) -> List[ast.expr]:  # noqa: PLR0911 - one line a kind of node
    """The expressions inside of `node`, whose own kind is allowed; a name is added to `names`."""
    if isinstance(node, ast.Constant) and _allowed(node.value):
        return []
    if isinstance(node, ast.Name):
        names.append(node.id)
        return []
    if isinstance(node, ast.BoolOp):
        return list(node.values)
    if isinstance(node, ast.UnaryOp) and (isinstance(node.op, ast.Not) or type(node.op) in _SIGNS):
        return [node.operand]
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return [node.left, node.right]
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
        return [node.left, *node.comparators]
    if isinstance(node, ast.Call) and _known_call(node):
        return list(node.args)
    raise BadCondition("%s is not allowed; it may hold %s" % (_kind(node), _GRAMMAR))


def _allowed(value: Any) -> bool:
    if type(value) is int:
        return value.bit_length() <= _BITS
    return type(value) in (bool, float, str)


def _known_call(node: ast.Call) -> bool:
    """Whether it is one of the five functions with plain arguments, as many as it takes."""
    if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS or node.keywords:
        return False
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        return False
    return bool(node.args) if node.func.id in ("max", "min") else len(node.args) == 1


def _kind(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return "such a constant"
    if isinstance(node, ast.Call):
        return "such a call"
    return "%s" % type(node).__name__


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:  # noqa: PLR0911 - one line a kind of node
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BoolOp):
        each = (_truth(_value(part, values)) for part in node.values)
        return any(each) if isinstance(node.op, ast.Or) else all(each)
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, values)
        return not _truth(inner) if isinstance(node.op, ast.Not) else _SIGNS[type(node.op)](_number(inner))
    if isinstance(node, ast.BinOp):
        return _arithmetic(node, values)
    if isinstance(node, ast.Compare):
        return _compared(node, values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _called(node.func.id, [_value(part, values) for part in node.args])
    raise _Odd("%s cannot be judged" % _kind(node))


def _truth(value: Any) -> bool:
    return bool(value) and not _is_nan(value)


def _arithmetic(node: ast.BinOp, values: Mapping[str, Any]) -> Any:
    left, right = _number(_value(node.left, values)), _number(_value(node.right, values))
    try:
        result = _ARITHMETIC[type(node.op)](left, right)
    except (ZeroDivisionError, OverflowError) as error:
        raise _Odd(str(error)) from None
    return _number(result)


def _compared(node: ast.Compare, values: Mapping[str, Any]) -> bool:
    """Whether every comparison of the row holds; a NaN holds none, not even `!=`."""
    left = _value(node.left, values)
    for op, part in zip(node.ops, node.comparators):
        right = _value(part, values)
        if _is_nan(left) or _is_nan(right):
            return False
        try:
            if not _COMPARISONS[type(op)](left, right):
                return False
        except (TypeError, RecursionError):
            raise _Odd("%s and %s cannot be compared" % (_word(left), _word(right))) from None
        left = right
    return True


def _called(name: str, arguments: List[Any]) -> Any:
    first = arguments[0]
    if name == "len":
        if isinstance(first, (str, list, tuple, dict)):
            return len(first)
        raise _Odd("%s has no length" % _word(first))
    if name == "isnan":
        return _is_nan(first)
    if name == "abs":
        return abs(_number(first))
    row = list(first) if len(arguments) == 1 and isinstance(first, (list, tuple)) else arguments
    if not row:
        raise _Odd("%s of an empty list" % name)
    numbers = [_number(value) for value in row]
    if any(_is_nan(number) for number in numbers):
        return math.nan
    return max(numbers) if name == "max" else min(numbers)


def _number(value: Any) -> Any:
    if not isinstance(value, (int, float)):
        raise _Odd("%s is no number" % _word(value))
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise _Odd("a number grew too large")
    return value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _word(value: Any) -> str:
    kinds = {str: "a text", list: "a list", tuple: "a list", dict: "a table", bool: "true or false"}
    return kinds.get(type(value), "a number")
