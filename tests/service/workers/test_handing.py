"""Connections on their way from one process to another: none is lost."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from twisted.internet.interfaces import IReadDescriptor
from zope.interface.verify import verifyObject

from mailserver.service.workers.doors import Load
from mailserver.service.workers.handing import MOST_WAITING, Accepted, Giver, Taker, pair


@attrs.define
class Readers:
    """What a reactor knows of who reads; the test decides when it does."""

    there: list[Any] = attrs.Factory(list)

    def addReader(self, reader: Any) -> None:
        self.there.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.there.remove(reader)


class Both:
    """The two ends, with what each was told."""

    def __init__(self) -> None:
        self.reactor = Readers()
        giving, taking = pair()
        self.taken: list[int] = []
        self.refused: list[int] = []
        self.left: list[int] = []
        self.served: list[Accepted] = []
        self.giver = Giver(
            giving,
            self.reactor,
            lambda one: self.taken.append(one.number),
            lambda one: self.refused.append(one.number),
            lambda one: self.left.append(one.number),
        )
        self.taker = Taker(taking, self.reactor, self.served.append)
        self.sockets: list[socket.socket] = []

    def accepted(self, number: int) -> Accepted:
        here, client = socket.socketpair()
        self.sockets += [here, client]
        client.send(b"I am %d" % number)
        return Accepted(number, f"service{number % 3}", number % 2 == 0, here, ("192.0.2.1", 7))

    def close(self) -> None:
        self.giver.close()
        self.taker.close()
        for one in [*self.sockets, *(one.socket for one in self.served)]:
            one.close()


@pytest.fixture
def both() -> Iterator[Both]:
    ends = Both()
    yield ends
    ends.close()


def test_both_are_for_a_reactor(both: Both) -> None:
    verifyObject(IReadDescriptor, both.giver)
    verifyObject(IReadDescriptor, both.taker)


def test_each_comes_with_its_own_word(both: Both) -> None:
    for number in range(1, 6):
        assert both.giver.give(both.accepted(number))
    both.taker.doRead()
    for number, one in enumerate(both.served, 1):
        assert (one.number, one.service) == (number, f"service{number % 3}")
        assert (one.behind_proxy, one.address) == (number % 2 == 0, ("192.0.2.1", 7))
        assert one.socket.recv(100) == b"I am %d" % number
        assert not os.get_inheritable(one.socket.fileno())
    both.giver.doRead()
    assert both.taken == [1, 2, 3, 4, 5]
    assert not both.giver.waiting
    assert not both.left


def test_what_is_not_taken_comes_back(both: Both) -> None:
    """The other process ended: in order, or by SIGKILL."""
    for number in (1, 2, 3):
        both.giver.give(both.accepted(number))
    both.taker._end.recv(1)  # it may have read the word, and then died
    both.taker.close()
    both.giver.doRead()
    assert both.left == [1, 2, 3]
    assert not both.giver.give(both.accepted(4)), "nobody is there"
    assert both.left == [1, 2, 3]


def test_what_was_taken_does_not_come_back(both: Both) -> None:
    both.giver.give(both.accepted(1))
    both.taker.doRead()
    both.giver.give(both.accepted(2))
    both.taker.close()
    both.giver.close()  # also where it is not the first to hear of it
    assert (both.taken, both.left) == ([1], [2])


def test_only_so_many_wait(both: Both) -> None:
    """So that nothing ever blocks, and a process that hangs gets no more."""
    for number in range(1, MOST_WAITING + 1):
        assert both.giver.give(both.accepted(number))
    assert not both.giver.give(both.accepted(99))
    while len(both.served) < MOST_WAITING:
        both.taker.doRead()
    both.giver.doRead()
    assert len(both.taken) == MOST_WAITING


def test_a_process_without_room_for_open_files_says_so(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    both.giver.give(both.accepted(1))

    def truncated(end: socket.socket, *rest: Any) -> tuple[bytes, list[int], int, None]:
        return end.recv(4096), [], socket.MSG_CTRUNC, None

    monkeypatch.setattr(socket, "recv_fds", truncated)
    both.taker.doRead()
    both.giver.doRead()
    assert both.refused == [1]
    assert not both.served
    assert not both.left


@pytest.mark.parametrize(
    ("mine", "others", "first"),
    [
        pytest.param("i", "", "other", id="fewest_of_the_service"),
        pytest.param("l", "i", "mine", id="other_services_count_less"),
        pytest.param("il", "i", "other", id="but_they_count"),
    ],
)
def test_who_has_least_to_do_is_next(mine: str, others: str, first: str, both: Both) -> None:
    loads = {"mine": Load(), "other": Load()}
    number = 0
    for name, services in (("mine", mine), ("other", others)):
        for service in services:
            number += 1
            loads[name].began(attrs.evolve(both.accepted(number), service=service))
    assert min(loads, key=lambda name: loads[name].order("i")) == first


def test_who_has_as_much_to_do_waits_for_his_turn(both: Both) -> None:
    loads = [Load(), Load(), Load()]
    order = []
    for number in range(1, 7):
        load = min(loads, key=lambda load: load.order("service1"))
        order.append(loads.index(load))
        load.began(attrs.evolve(both.accepted(number), service="service1"))
        load.ended(number)  # one after the other, each ended before the next
    assert order == [0, 1, 2, 0, 1, 2]
    assert loads[0].given == 2
