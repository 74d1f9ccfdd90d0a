"""The time from joining to carrying all policies: percentiles by the nearest rank, and a distribution."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Final

from schemas.pack import Latency, LatencyRange, Member

#: The ends of the ranges, in seconds: a minute, an hour and a day are among them.
_ENDS: Final = (2, 5, 10, 20, 30, 60, 120, 300, 900, 3600, 21_600, 86_400)
_MEDIAN: Final = 0.5
_TAIL: Final = 0.95


def latency(members: Iterable[Member]) -> Latency:
    """Return how long it took until those that joined in the period, and were guarded, carried their policies."""
    guarded = [each for each in members if each.is_new and each.guarded_at]
    seconds = sorted(each.seconds for each in guarded if each.seconds is not None)
    return Latency(
        measured=len(seconds),
        not_measured=len(guarded) - len(seconds),
        p50=_percentile(seconds, _MEDIAN),
        p95=_percentile(seconds, _TAIL),
        longest=seconds[-1] if seconds else None,
        ranges=_ranges(seconds),
    )


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[ceil(len(ordered) * share) - 1] if ordered else None


def _ranges(ordered: Sequence[float]) -> tuple[LatencyRange, ...]:
    """Return the ranges, without empty ones at the end."""
    counts = [0] * (len(_ENDS) + 1)
    for each in ordered:
        counts[next((number for number, until in enumerate(_ENDS) if each <= until), len(_ENDS))] += 1
    last = max((number for number, count in enumerate(counts) if count), default=-1)
    return tuple(
        LatencyRange(up_to=_ENDS[number] if number < len(_ENDS) else None, joins=count)
        for number, count in enumerate(counts[: last + 1])
    )
