"""What clients may do to a server that others need: floods, silence, slowness, guessing.

Each scenario is a coroutine over a running server; it gives figures, and raises
AssertionError for what must not be. Sizes are arguments: small in `make test`, those of the
requirement in `make stress`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from tests.service.process import PASSWORD, TWISTD, Process
from tests.stress.site import ACCOUNTS, Client, Site, addresses, p99

Figures = dict[str, object]

AT_ONCE = 100
"""Connections that are opened at the same time."""

GRACE = 5.0
"""Seconds by which a deadline may be late on a busy machine."""


async def connected(
    site: Site, number: int, hosts: int, net: int, service: str = "imap"
) -> list[tuple[Client, bytes]]:
    """Open many connections from some hosts; each with the server's first line."""
    place = addresses(hosts, net)
    made: list[tuple[Client, bytes]] = []

    async def open_one() -> None:
        client = await site.connect(next(place), service)
        made.append((client, await client.line()))

    for begin in range(0, number, AT_ONCE):
        await asyncio.gather(*(open_one() for _ in range(min(AT_ONCE, number - begin))))
    return made


async def _closed(clients: Sequence[Client], act: Callable[[Client], Awaitable[None]]) -> float:
    """Have every client act until the server closes; seconds until the last was closed."""
    began = time.monotonic()

    async def live(client: Client) -> None:
        rest = asyncio.create_task(client.rest())
        while not rest.done():
            await act(client)
            await asyncio.wait([rest], timeout=10)

    await asyncio.gather(*map(live, clients))
    return time.monotonic() - began


async def silent(site: Site, number: int, per_address: int, login_timeout: float) -> Figures:
    """One host connects very often and says nothing (R11)."""
    async with site.watched() as visits:
        made = await connected(site, number, 1, net=1)
        admitted = [client for client, line in made if line.startswith(b"* OK ")]
        refused = [line for _, line in made if line.startswith(b"* BYE [LIMIT] too many conn")]
        assert len(admitted) + len(refused) == number, Counter(line[:20] for _, line in made)
        assert len(admitted) == per_address, len(admitted)

        async def say_nothing(client: Client) -> None: ...

        seconds = await _closed(admitted, say_nothing)
    assert seconds < login_timeout + GRACE, seconds
    for client, _ in made:
        client.close()
    return {
        "connections": number,
        "admitted": len(admitted),
        "closed after s": round(seconds, 1),
        "others' p99 ms": p99(visits),
        "visits": len(visits),
    }


async def trickle(site: Site, number: int, hosts: int, login_timeout: float) -> Figures:
    """Very many hosts send an octet every ten seconds and never log in (R11)."""
    before = site.resident
    async with site.watched() as visits:
        made = await connected(site, number, hosts, net=2)
        clients = [client for client, line in made if line.startswith(b"* OK ")]

        async def send_octet(client: Client) -> None:
            client.writer.write(b"a")

        seconds = await _closed(clients, send_octet)
        growth = site.resident - before
    assert seconds < login_timeout + GRACE, seconds
    for client, _ in made:
        client.close()
    return {
        "connections": number,
        "admitted": len(clients),
        "closed after s": round(seconds, 1),
        "memory MB": round(growth / 1e6, 1),
        "others' p99 ms": p99(visits),
        "visits": len(visits),
    }


async def flood(site: Site, per_second: int, seconds: float) -> Figures:
    """One host connects as fast as so many a second and never stays (R11)."""
    outcomes: Counter[str] = Counter()

    async def knock() -> None:
        try:
            client = await site.connect("127.0.3.1")
            line = await client.line()
            outcomes["greeted" if line.startswith(b"* OK ") else "refused"] += 1
            client.close()
        except OSError as error:
            outcomes[type(error).__name__] += 1

    async with site.watched() as visits:
        began = time.monotonic()
        tasks = []
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            tasks.append(asyncio.create_task(knock()))
        await asyncio.gather(*tasks)
        took = time.monotonic() - began
    return {
        **dict(outcomes),
        "per second": round(per_second * seconds / took),
        "others' p99 ms": p99(visits),
        "visits": len(visits),
    }


async def reconnect(site: Site, number: int, hosts: int) -> Figures:
    """More clients than there are places come back at once, and log in, which takes its time:
    all get in, in the time that the checks take (R11, R18)."""
    place = addresses(hosts, net=10)
    outcomes: Counter[str] = Counter()
    waits: list[float] = []

    async def come_back(index: int) -> None:
        address, name = next(place), ACCOUNTS[index % 2]
        began = time.monotonic()
        while True:
            client = await site.connect(address)
            greeting = await client.line()
            if not greeting.startswith(b"* OK "):
                outcomes["told to come again"] += 1
                client.close()
                await asyncio.sleep(1)
                continue
            while (answer := await client.log_in(name)).startswith(b"l NO [UNAVAILABLE]"):
                outcomes["told to try again"] += 1
                await asyncio.sleep(1)
            if answer.startswith(b"l OK "):
                waits.append(time.monotonic() - began)
                client.close()
                return
            assert answer in (b"", b"* BYE too many connections, try again later\r\n"), answer
            outcomes["had to make room"] += 1  # between two tries
            client.close()

    began = time.monotonic()
    await asyncio.gather(*map(come_back, range(number)))
    took = time.monotonic() - began
    return {"clients": number, **outcomes, "all in after s": round(took, 1), "p99 ms": p99(waits)}


async def few_descriptors(site: Site, number: int, hosts: int) -> Figures:
    """More connections than the process may open files; none of them logs in (R11)."""
    async with site.watched() as visits:
        made = await connected(site, number, hosts, net=4)
        most = site.descriptors
        at_once = len(visits)
        await asyncio.sleep(2)
        assert len(visits) > at_once, "nobody else is served"
        for client, _ in made:
            client.close()
    client = await site.connect()
    assert (await client.line()).startswith(b"* OK ")
    client.close()
    outcomes = Counter(line[:8].decode() or "closed" for _, line in made)
    return {**outcomes, "descriptors": most, "visits": len(visits)}


async def wrong_logins(site: Site, number: int, connections: int, most: float) -> Figures:
    """One host guesses passwords, as many at once as it may; another logs in, with a p99
    below `most` milliseconds (S7)."""
    outcomes: Counter[str] = Counter()
    left = iter(range(number))

    async def guess() -> None:
        while True:
            client = await site.connect("127.0.5.1")
            greeting = await client.line()
            if not greeting.startswith(b"* OK "):
                outcomes["refused"] += 1
                await asyncio.sleep(0.5)
                continue
            for one in left:
                answer = await client.log_in(f"user{one % 50}@example.org", f"guess{one}")
                word = answer[answer.find(b"[") + 1 : answer.find(b"]")].decode()
                outcomes[word] += 1
                if not answer.startswith(b"l NO "):
                    break
            else:
                client.close()
                return
            client.close()

    async with site.watched() as visits:
        began = time.monotonic()
        await asyncio.gather(*(guess() for _ in range(connections)))
        took = time.monotonic() - began
    slowest = p99(visits)
    assert slowest < most, slowest
    assert "CAPABILITY" not in "".join(outcomes)
    return {
        **outcomes,
        "seconds": round(took, 1),
        "others' p99 ms": slowest,
        "visits": len(visits),
    }


async def slow_readers(
    site: Site, number: int, octets: int, reading: float, write_timeout: float, most: float
) -> Figures:
    """Very many clients fetch a large message and read 1 KB/s, then nothing at all; others'
    p99 stays below `most` milliseconds (R10)."""
    writer = await site.connect()
    await writer.line()
    await writer.log_in()
    body = b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * (octets // 1000)
    writer.writer.write(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(body), body))
    assert (await writer.line()).startswith(b"a OK ")
    writer.close()
    place = addresses(max(1, number // 20), net=6)
    sockets: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    for _ in range(number):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.bind((next(place), 0))
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", site.process.ports["imap"]))
        sockets.append(raw)
        login = f'l LOGIN {ACCOUNTS[0]} "{PASSWORD}"\r\ns SELECT INBOX\r\n'
        await loop.sock_sendall(raw, login.encode())
        seen = b""
        while b"s OK" not in seen:
            seen += await asyncio.wait_for(loop.sock_recv(raw, 2048), 30)
    before = site.resident
    async with site.watched() as visits:
        for raw in sockets:
            await loop.sock_sendall(raw, b"f FETCH 1 BODY.PEEK[]\r\n")
        began = time.monotonic()
        while time.monotonic() < began + reading:
            for raw in sockets:
                try:
                    raw.recv(1024)
                except BlockingIOError:
                    pass
            await asyncio.sleep(1)
        growth = site.resident - before
        stopped = time.monotonic()
        cut = "cut off: output not taken"
        while sum(cut in line for line in site.process.log) < number:
            assert time.monotonic() < stopped + write_timeout + GRACE, "not cut off in time"
            await asyncio.sleep(0.1)
        seconds = time.monotonic() - stopped
    for raw in sockets:
        raw.close()
    slowest = p99(visits)
    assert growth < 100e6, growth
    assert slowest < most, slowest
    return {
        "clients": number,
        "message MB": round(octets / 1e6, 1),
        "memory MB": round(growth / 1e6, 1),
        "all cut off after s": round(seconds, 1),
        "others' p99 ms": slowest,
        "visits": len(visits),
    }


TCP_REPAIR = 19  # <linux/tcp.h>; closing a socket in this mode tells the peer nothing


async def half_open(site: Site, number: int, login_timeout: float) -> Figures:
    """Clients that vanish without a word from their machine, before they have logged in."""
    made = await connected(site, number, max(1, number // 10), net=7)
    assert all(line.startswith(b"* OK ") for _, line in made)
    before = site.descriptors
    for client, _ in made:
        raw: socket.socket = client.writer.get_extra_info("socket")
        try:
            raw.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            return {"skipped": "needs the right to TCP_REPAIR (CAP_NET_ADMIN)"}
        client.close()
    began = time.monotonic()
    await asyncio.sleep(0.2)
    assert site.descriptors >= before, "the server was told"
    while site.descriptors > before - number:
        assert time.monotonic() < began + login_timeout + GRACE, site.descriptors
        await asyncio.sleep(0.1)
    return {"connections": number, "gone after s": round(time.monotonic() - began, 1)}


async def one_account(site: Site, per_user: int) -> Figures:
    """One account logs in as often as it may, from one host, and once more (SUN-30)."""
    host, name = "127.0.8.1", ACCOUNTS[0]
    clients = []
    for _ in range(per_user):
        clients.append(await site.connect(host))
        await clients[-1].line()
        answer = await clients[-1].log_in()
        assert answer.startswith(b"l OK "), answer
    more = await site.connect(host)
    await more.line()
    answer = await more.log_in()
    assert answer == b"l NO [LIMIT] too many sessions of this account are open\r\n", answer
    pop = await site.connect(host, "pop3")
    await pop.line()
    await pop.say(f"USER {name}")
    answer = await pop.say(f"PASS {PASSWORD}")
    assert answer == b"-ERR [SYS/TEMP] too many sessions of this account are open\r\n", answer
    elsewhere = await site.connect("127.0.8.2")
    await elsewhere.line()
    assert (await elsewhere.log_in()).startswith(b"l OK ")
    other = await site.connect(host)
    await other.line()
    assert (await other.log_in(ACCOUNTS[1])).startswith(b"l OK ")
    leaving = clients.pop()
    assert (await leaving.answer("q", "LOGOUT")).startswith(b"q OK ")
    await leaving.rest()
    leaving.close()
    answer = await more.log_in()
    assert answer.startswith(b"l OK "), answer
    for client in (*clients, more, pop, elsewhere, other):
        client.close()
    return {"sessions": per_user, "refused in": "IMAP, POP3"}


async def restart(site: Site, number: int) -> Figures:
    """SIGTERM amid idling, fetching, appending and silent clients of every protocol (R18)."""
    hosts = max(3, number // 10)
    groups: dict[str, list[Client]] = {}
    for name in ("idle", "fetch", "append", "guest"):
        made = await connected(site, number, hosts, net=9)
        groups[name] = [client for client, _ in made]
        if name != "guest":
            answers = await asyncio.gather(*(client.log_in() for client in groups[name]))
            assert all(answer.startswith(b"l OK ") for answer in answers), answers[0]
    for service in ("pop3", "lmtp"):
        made = await connected(site, number, hosts, 9, service)
        groups[service] = [client for client, _ in made]
    for client in groups["idle"]:
        await client.answer("s", "SELECT INBOX")
        assert (await client.say("i IDLE")).startswith(b"+ ")
    for client in groups["fetch"]:
        await client.answer("s", "SELECT INBOX")
        client.writer.write(b"f FETCH 1:* BODY.PEEK[]\r\n" * 3)
    body = b"Subject: x\r\n\r\ntext\r\n"
    for index, client in enumerate(groups["append"]):
        more = 100 * (index % 2)  # every other message does not come to its end
        client.writer.write(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(body) + more, body))
    first = await groups["append"][0].line()  # now the others' are on their way
    assert first.startswith((b"a OK ", b"* ")), first
    began = time.monotonic()
    os.kill(site.process.popen.pid, signal.SIGTERM)
    every = [client for group in groups.values() for client in group]
    rests = dict(zip(map(id, every), await asyncio.gather(*(c.rest() for c in every)), strict=True))
    site.process.wait(15)
    took = time.monotonic() - began
    words = {"pop3": b"-ERR [SYS/TEMP] ", "lmtp": b"421 4.3.2 "}
    acknowledged = int(b"a OK " in first)
    for name, group in groups.items():
        for client in group:
            *_, last = rests[id(client)].splitlines() or [b""]
            assert last.startswith(words.get(name, b"* BYE ")), (name, rests[id(client)][-200:])
            acknowledged += name == "append" and b"a OK " in rests[id(client)]
        for client in group:
            client.close()
    assert took < 10, took
    site.process = Process.start(*TWISTD, str(site.config))
    client = await site.connect()
    await client.line()
    await client.log_in()
    client.writer.write(b"s STATUS INBOX (MESSAGES)\r\n")
    kept = int((await client.line()).split()[-1].rstrip(b")"))
    client.close()
    assert kept >= acknowledged, (kept, acknowledged)
    return {
        "sessions": len(every),
        "exit after s": round(took, 2),
        "appended": acknowledged,
        "kept": kept,
    }
