"""Values over time in a bounded number of equal stretches, in one pass, without knowing where time ends."""

from typing import Any, Dict, List, Mapping, Optional

_LOW, _HIGH, _SUM, _WEIGHT, _PLAIN, _COUNT = range(6)
_FIRST_WIDTH_MS = 1


class Buckets:
    """At most `most` buckets from the first moment on; they get twice as wide when time outgrows them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Dict[int, Dict[str, List[float]]] = {}
        self._counts: Dict[int, int] = {}
        self.start_ms: Optional[int] = None
        self.end_ms = 0
        self.width_ms = _FIRST_WIDTH_MS
        self.before = 0  # samples from before the first one: a clock that was set back

    def add(self, at_ms: int, held_ms: float, values: Mapping[str, float]) -> None:
        """Nothing comes back: `values` at a moment, which held for `held_ms` before it."""
        if self.start_ms is None:
            self.start_ms = at_ms
        if at_ms < self.start_ms:
            self.before += 1
            return
        self.end_ms = max(self.end_ms, at_ms)
        while (at_ms - self.start_ms) // self.width_ms >= self._most:
            self._widen()
        index = (at_ms - self.start_ms) // self.width_ms
        self._counts[index] = self._counts.get(index, 0) + 1
        bucket = self._held.setdefault(index, {})
        for name, value in values.items():
            found = bucket.get(name)
            if found is None:
                bucket[name] = [value, value, value * held_ms, held_ms, value, 1]
                continue
            found[_LOW] = min(found[_LOW], value)
            found[_HIGH] = max(found[_HIGH], value)
            found[_SUM] += value * held_ms
            found[_WEIGHT] += held_ms
            found[_PLAIN] += value
            found[_COUNT] += 1

    def rows(self) -> List[Dict[str, Any]]:
        """Each bucket that has samples: where it begins, how many, and `[low, mean, high]` by name."""
        start_ms = self.start_ms or 0
        return [
            {
                "at_ms": start_ms + index * self.width_ms,
                "samples": self._counts[index],
                **{name: _told(found) for name, found in self._held[index].items()},
            }
            for index in sorted(self._held)
        ]

    def _widen(self) -> None:
        self.width_ms *= 2
        held, self._held = self._held, {}
        counts, self._counts = self._counts, {}
        for index, count in counts.items():
            self._counts[index // 2] = self._counts.get(index // 2, 0) + count
        for index, bucket in held.items():
            met = self._held.setdefault(index // 2, {})
            for name, found in bucket.items():
                met[name] = _joined(met[name], found) if name in met else found


def _joined(one: List[float], other: List[float]) -> List[float]:
    low, high = min(one[_LOW], other[_LOW]), max(one[_HIGH], other[_HIGH])
    return [low, high, *(mine + theirs for mine, theirs in zip(one[_SUM:], other[_SUM:]))]


def _told(found: List[float]) -> List[float]:
    mean = found[_SUM] / found[_WEIGHT] if found[_WEIGHT] > 0 else found[_PLAIN] / found[_COUNT]
    # A sum of large numbers may be a digit off: a mean lies between the least and the most.
    return [
        rounded(value) for value in (found[_LOW], min(max(mean, found[_LOW]), found[_HIGH]), found[_HIGH])
    ]


def rounded(value: float) -> float:
    """`value` with three decimals below a thousand, whole above: more digits say nothing here."""
    return round(value, 3) if abs(value) < 1000 else round(value)
