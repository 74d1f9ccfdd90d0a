"""Virtual time: run the real, blocking code of several workers one at a time, in the order of a virtual clock."""

from __future__ import annotations

import heapq
import itertools
import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.fakes import NOON

if TYPE_CHECKING:
    from collections.abc import Callable


class VirtualTime:
    """A clock on which only waiting takes time. Workers run in threads, one at a time."""

    def __init__(self) -> None:
        self._now = 0.0
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, threading.Semaphore]] = []
        self._mine = threading.local()
        self._paused = threading.Semaphore(0)

    def seconds(self) -> float:
        return self._now

    def wait(self, seconds: float) -> None:
        turn: threading.Semaphore = self._mine.turn
        heapq.heappush(self._waiting, (self._now + max(0.0, seconds), next(self._order), turn))
        self._paused.release()
        turn.acquire()

    def run(self, *workers: Callable[[], None]) -> None:
        """Run workers until all have ended."""
        threads = [self._start(worker) for worker in workers]
        while self._waiting:
            self._now, _, turn = heapq.heappop(self._waiting)
            turn.release()
            self._paused.acquire()
        for thread in threads:
            thread.join()

    def _start(self, worker: Callable[[], None]) -> threading.Thread:
        turn = threading.Semaphore(0)

        def body() -> None:
            self._mine.turn = turn
            turn.acquire()
            try:
                worker()
            finally:
                self._paused.release()

        heapq.heappush(self._waiting, (self._now, next(self._order), turn))
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        return thread

    # The product's own clock.

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self._now)

    def sleep(self, seconds: float) -> None:
        self.wait(seconds)
