"""The same mail in Dovecot and in ours gives the same answers, but for a table of reasons."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from mailserver.wire.imap import responses as r
from tests.differential import allowed
from tests.differential.answers import DESCRIPTIONS, Answers, ask, sections
from tests.differential.client import Client
from tests.differential.dovecot import dovecot, imap_program
from tests.differential.messages import corpus, of_cpython
from tests.differential.programmes import PROGRAMMES, arguments, written
from tests.live.server import start

EQUAL = 0.98
"""Share of the answers that must be the same."""

PAGE = Path(__file__).parents[2] / "docs" / "differences-from-dovecot.md"


@attrs.frozen
class Answered:
    """What both servers said, ours first.

    Attributes:
        fetched: message -> the two sets of answers.
        searched: programme -> the two sets of messages found, by name.
    """

    fetched: dict[str, tuple[Answers, Answers]]
    searched: dict[str, tuple[set[str], set[str]]]


@contextmanager
def ours(directory: Path) -> Iterator[Client]:
    """A client of our server with an empty INBOX."""
    server = start(directory / "data")
    try:
        name, password = server.new_account("differential@example.com")
        address = (server.host, server.port("imaps"))
        with (
            socket.create_connection(address, timeout=60) as plain,
            server.tls().wrap_socket(plain, server_hostname=server.host) as connection,
        ):
            client = Client(connection.send, lambda: connection.recv(1 << 18))
            client.run(f'LOGIN "{name}" "{password}"'.encode())
            yield client
    finally:
        server.stop()


@pytest.fixture(scope="module")
def mail() -> dict[str, bytes]:
    imap_program()  # skips before anything is started
    return corpus()


@pytest.fixture(scope="module")
def answered(mail: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Answered:
    with ours(tmp_path_factory.mktemp("differential")) as own, dovecot() as peer:
        for client in (own, peer):
            for number, octets in enumerate(mail.values(), 1):
                client.append(b"INBOX", arguments(number), octets)
            client.run(b"SELECT INBOX")
            client.run(b"NOOP")
        names = list(mail)
        searched = {
            programme: (found(own, programme, names), found(peer, programme, names))
            for programme in PROGRAMMES
        }
        fetched = {name: fetch_from_both(own, peer, number) for number, name in enumerate(names, 1)}
        return Answered(fetched, searched)


def fetch_from_both(own: Client, peer: Client, number: int) -> tuple[Answers, Answers]:
    """Ask both about a message: first what it is made of, then every part that either sees."""
    mine = ask(own, number, list(DESCRIPTIONS))
    theirs = ask(peer, number, list(DESCRIPTIONS))
    asked: dict[bytes, None] = {}
    for answers in (mine, theirs):
        structure = answers["BODYSTRUCTURE"]
        assert isinstance(structure, r.SinglePart | r.MultiPart)
        asked |= dict.fromkeys(sections(structure))
    return mine | ask(own, number, list(asked)), theirs | ask(peer, number, list(asked))


def found(client: Client, programme: str, names: list[str]) -> set[str]:
    """The names of the messages that a programme finds."""
    results = [
        response
        for response in client.run(written(programme))
        if isinstance(response, r.SearchResult)
    ]
    return {names[number - 1] for result in results for number in result.numbers}


def test_fetch_gives_what_dovecot_gives(mail: dict[str, bytes], answered: Answered) -> None:
    """At least 98 % of all answers are equal, and every other one has its reason."""
    assert len(mail) >= 300
    total = 0
    reasons: Counter[str] = Counter()
    unexplained = []
    for name, (mine, theirs) in answered.fetched.items():
        for item in {**mine, **theirs}:
            total += 1
            case = allowed.Case(name, mail[name], item, mine.get(item), theirs.get(item))
            if case.ours != case.theirs:
                reason = allowed.reason_for(case)
                reasons[str(reason)] += 1
                if reason is None:
                    unexplained.append(case)
    different = sum(reasons.values())
    print(f"{total} answers about {len(mail)} messages, {different} differ: {reasons}")
    assert not unexplained, "\n".join(
        f"{case.message} {case.item}\n   {case.ours}\n   {case.theirs}" for case in unexplained[:10]
    )
    assert different <= (1 - EQUAL) * total
    unused = {name for name, _holds in allowed.FETCHES} - set(reasons)
    assert not unused, f"rows that explain nothing any more: {unused}"


def test_search_finds_what_dovecot_finds(mail: dict[str, bytes], answered: Answered) -> None:
    """At least 98 % of all decisions are equal, and every other one has its reason."""
    assert len(PROGRAMMES) >= 150
    reasons: Counter[str] = Counter()
    unexplained = []
    for programme, (mine, theirs) in answered.searched.items():
        for name in mine ^ theirs:
            found_by_one = allowed.Found(name, mail[name], name in mine)
            reason = allowed.reason_for_search(programme, found_by_one)
            reasons[str(reason)] += 1
            if reason is None:
                unexplained.append(f"{programme}: {name}, {'ours' if name in mine else 'Dovecot'}")
    different = sum(reasons.values())
    total = len(PROGRAMMES) * len(mail)
    wholly = sum(mine == theirs for mine, theirs in answered.searched.values())
    print(f"{wholly} of {len(PROGRAMMES)} programmes find the same")
    print(f"{total} decisions about {len(mail)} messages, {different} differ: {reasons}")
    assert not unexplained, "\n".join(unexplained)
    assert different <= (1 - EQUAL) * total
    equal = {one for one, (mine, theirs) in answered.searched.items() if mine == theirs}
    assert not equal & set(allowed.SEARCHES), "rows that explain nothing any more"


def test_a_part_that_is_not_there(answered: Answered) -> None:
    """Said apart from an empty part, which is there (RFC 3501 §4.5)."""
    mine, theirs = answered.fetched["boundary_prefix"]
    assert (mine["BODY[3]"], theirs["BODY[3]"]) == (None, b"")
    assert answered.fetched["header_and_end"][0]["BODY[1]"] == b""


def test_cpythons_messages_are_among_them(mail: dict[str, bytes]) -> None:
    if not of_cpython():
        pytest.skip("this Python has no test.test_email.data")
    assert sum(name.startswith("cpython_") for name in mail) >= 40


def test_every_reason_is_on_the_page() -> None:
    """Each row of the table has its heading with the deciding line, and no other has one."""
    headings = re.findall(r"^### (\S+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(allowed.REASONS)
