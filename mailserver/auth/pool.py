"""A few threads for expensive checks, shared fairly between clients (S7).

Each client (an address) has its own queue, and the queues take turns: however many checks
one client asks for, another's next one waits for at most one round. Queues are bounded;
what does not fit is refused at once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from mailserver.errors import ErrorKind, MailError

T = TypeVar("T")


class FairPool:
    """Threads and queues; to be started and stopped.

    Args:
        reactor: gets the results.
        threads: how many checks run at once.
        max_waiting: checks of all clients that may wait.
        max_waiting_per_client: checks of one client that may wait.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        threads: int = 2,
        *,
        max_waiting: int = 1000,
        max_waiting_per_client: int = 50,
    ) -> None:
        self._reactor = reactor
        self._threads = threads
        self._max_waiting = max_waiting
        self._max_waiting_per_client = max_waiting_per_client
        self._pool = ThreadPool(minthreads=0, maxthreads=threads, name="passwords")
        self._queues: OrderedDict[str, deque[tuple[Deferred[Any], Callable[[], Any]]]]
        self._queues = OrderedDict()
        self._waiting = 0
        self._running = 0
        self._stopped = False

    def start(self) -> None:
        """Let work begin; needed once."""
        self._pool.start()

    def stop(self) -> None:
        """Refuse what waits, let running work end; blocks until then (one check's time)."""
        self._stopped = True
        queues, self._queues, self._waiting = self._queues, OrderedDict(), 0
        for queue in queues.values():
            for result, _ in queue:
                if not result.called:
                    result.errback(MailError(ErrorKind.UNAVAILABLE, "the server is stopping"))
        if self._pool.started:
            self._pool.stop()

    async def run(self, client: str, work: Callable[[], T]) -> T:
        """Run `work` on a thread when the client's turn has come.

        Raises:
            MailError: TOO_MANY if too much is waiting; UNAVAILABLE at the stop.
        """
        if self._stopped:
            raise MailError(ErrorKind.UNAVAILABLE, "the server is stopping")
        queue = self._queues.get(client)
        if self._waiting >= self._max_waiting or (
            queue is not None and len(queue) >= self._max_waiting_per_client
        ):
            raise MailError(ErrorKind.TOO_MANY, "too many login attempts at once; try again later")
        result: Deferred[T] = Deferred(lambda _: None)
        self._queues.setdefault(client, deque()).append((result, work))
        self._waiting += 1
        self._next()
        return await result

    def _next(self) -> None:
        while self._running < self._threads and self._queues:
            client, queue = self._queues.popitem(last=False)
            result, work = queue.popleft()
            self._waiting -= 1
            if queue:
                self._queues[client] = queue  # behind the others
            if result.called:
                continue  # cancelled: the client went away
            self._running += 1
            deferToThreadPool(self._reactor, self._pool, work).addBoth(self._done, result)

    def _done(self, outcome: Any, result: Deferred[Any]) -> None:
        self._running -= 1
        self._next()
        if result.called:
            return
        if isinstance(outcome, Failure):
            result.errback(outcome)
        else:
            result.callback(outcome)
