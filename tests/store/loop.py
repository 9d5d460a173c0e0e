"""A reactor small enough to see through: runs one awaitable until it is done."""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

T = TypeVar("T")


class Loop(Clock):
    """`callLater` by a clock that only moves when asked, `callFromThread` by a queue.

    `turns` counts what came through, so a test can tell whether work gave way.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self.turns = 0

    def callFromThread(self, function: Callable[..., Any], *args: Any, **keys: Any) -> None:
        self._calls.put(lambda: function(*args, **keys))

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any, **keys: Any) -> Any:
        call = super().callLater(delay, function, *args, **keys)

        def run_in_a_turn_of_its_own() -> None:
            if call.active():
                call.cancel()
                function(*args, **keys)

        if not delay:
            self._calls.put(run_in_a_turn_of_its_own)
        return call

    def run_one(self, call: Callable[[], Any]) -> None:
        """One turn."""
        call()

    def run(self, awaitable: Awaitable[T], timeout: float = 30) -> T:
        """Turn until the awaitable has its result; raises what it raises."""

        async def waited() -> T:
            return await awaitable

        done: list[T] = []
        failed: list[BaseException] = []
        deferred = Deferred.fromCoroutine(_coroutine(waited()))
        deferred.addCallbacks(done.append, lambda failure: failed.append(failure.value))
        while not (done or failed):
            self.run_one(self._calls.get(timeout=timeout))
            self.turns += 1
        if failed:
            raise failed[0]
        return done[0]

    def run_all(self, *awaitables: Awaitable[Any]) -> list[Any]:
        """Start all at once; their results, or the exceptions they ended with."""
        results: list[Any] = [None] * len(awaitables)

        async def one(at: int, awaitable: Awaitable[Any]) -> None:
            try:
                results[at] = await awaitable
            except Exception as error:
                results[at] = error

        async def all_() -> None:
            for started in [Deferred.fromCoroutine(one(at, a)) for at, a in enumerate(awaitables)]:
                await started

        self.run(all_())
        return results

    def turn(self) -> None:
        """Run what is ready now."""
        while not self._calls.empty():
            self._calls.get()()


def _coroutine(c: Coroutine[Any, Any, T]) -> Coroutine[Deferred[Any], Any, T]:
    return c
