"""What finding accounts and checking passwords cost.

python -m bench.accounts [ACCOUNTS]

The real directory file and argon2id with the default parameters, in one process.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet import task

from mailserver.auth.passwords import Passwords
from mailserver.auth.pool import FairPool
from mailserver.store.directory import Directory, NewAccount


async def measured(label: str, count: int, work: Callable[[int], Awaitable[object]]) -> None:
    """Do the work so many times and print the time of one."""
    start = time.perf_counter()
    for number in range(count):
        await work(number)
    print(f"{label:55} {(time.perf_counter() - start) / count * 1e6:10.1f} µs")


async def run(reactor: Any) -> None:
    accounts = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as directory_name:
        directory = Directory.open(Path(directory_name) / "directory.sqlite", reactor)
        pool = FairPool(reactor, 2)
        pool.start()
        try:
            await look_up(directory, accounts)
            await check(Passwords(pool, reactor))
        finally:
            pool.stop()
            await directory.stop()


async def look_up(directory: Directory, accounts: int) -> None:
    """Measure the directory with so many accounts."""
    new = [NewAccount(f"user{n}@example.org") for n in range(accounts)]
    start = time.perf_counter()
    await directory.create_accounts(new, add_domains=True)
    print(f"{accounts} accounts in one transaction: {time.perf_counter() - start:.2f} s")
    at, login = directory.recipient, directory.login_name
    await measured("RCPT, looked up before", 9000, lambda n: at("user5@example.org"))
    await measured("RCPT with a detail", 9000, lambda n: at("user5+lists@example.org"))
    await measured("RCPT, not looked up before", 9000, lambda n: at(f"user{n}@example.org"))
    await measured("login name with +", 9000, lambda n: login("user5+example.org"))


async def check(passwords: Passwords) -> None:
    """Measure hashes and remembered passwords."""
    own = await passwords.verifiers("right")
    matches = passwords.matches
    await measured("new verifiers, argon2id and SCRAM", 20, lambda n: passwords.verifiers("x"))
    await measured("wrong password", 40, lambda n: matches(own, "x", ""))
    await matches(own, "right", "")
    await measured("right password, remembered", 9000, lambda n: matches(own, "right", ""))


def main() -> None:
    """Run the measurement."""
    task.react(run)


if __name__ == "__main__":
    main()
