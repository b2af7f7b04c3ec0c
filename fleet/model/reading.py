"""A value that was read, or the reason why it was not. There is no third case and no default."""

from typing import Generic, NoReturn, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Known(Struct, Generic[T], frozen=True, tag="known"):
    """`value` as read at `at` (the box's clock, epoch seconds) from `vantage` (file or command)."""

    value: T
    at: float
    vantage: str

    def __bool__(self) -> NoReturn:
        raise TypeError("a reading has no truth value: match Known or Missing")


class Missing(Struct, frozen=True, tag="missing"):
    """`why` it could not be read, in words for a person. Never stands for zero or for no."""

    why: str

    def __bool__(self) -> NoReturn:
        raise TypeError("a reading has no truth value: match Known or Missing")


Reading = Known[T] | Missing
