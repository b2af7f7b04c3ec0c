"""JSON text that can be read by key: what other monitors give as text, their pages read as a mapping."""

import json
from typing import Any, Dict, ItemsView, Iterator, KeysView


class Report(str):
    """One JSON object as text; `report["key"]`, `get`, `keys`, `items` and `**report` read it.

    Numbers and slices index the text.
    """

    __slots__ = ("_record",)

    @property
    def record(self) -> Dict[str, Any]:
        """The object itself."""
        if not hasattr(self, "_record"):
            self._record: Dict[str, Any] = json.loads(str(self))
        return self._record

    def __getitem__(self, key: Any) -> Any:
        return self.record[key] if isinstance(key, str) else super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """What stands under `key`, else `default`."""
        return self.record.get(key, default)

    def keys(self) -> "KeysView[str]":
        """The names in it."""
        return self.record.keys()

    def items(self) -> "ItemsView[str, Any]":
        """The names in it and what stands under them."""
        return self.record.items()

    def __iter__(self) -> Iterator[str]:
        return super().__iter__()


def report_of(line: bytes) -> Report:
    """One line of a record as text that is read by key."""
    return Report(line.decode().rstrip("\n"))
