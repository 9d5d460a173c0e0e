"""R3: a full disk refuses mail and nothing else, and needs no restart when there is room again."""

from __future__ import annotations

import imaplib
from pathlib import Path

from tests.crash.disks import memory_disk
from tests.crash.journal import Content, Doubt, Journal, Place, message
from tests.crash.lmtp import Lmtp
from tests.crash.record import Figures, Tell, quiet
from tests.crash.site import ACCOUNTS, Site

MOST = 5000
"""Messages that 20 MB cannot hold."""


def _deliver(journal: Journal, lmtp: Lmtp, account: str) -> str:
    """Deliver a message; returns the reply."""
    tag = journal.new_tag()
    doubt = journal.begin(Doubt(account, arrives=(("INBOX", tag),)))
    [answer] = lmtp.deliver(message(tag), [account])
    if answer[:3] == "250":
        journal.done("LMTP", doubt, delivered=tag)
    else:
        journal.refused(doubt, answer)
    return answer


def _append(journal: Journal, client: imaplib.IMAP4, account: str) -> str:
    """Append a message; returns the answer."""
    tag = journal.new_tag()
    doubt = journal.begin(Doubt(account, arrives=(("Archive", tag),)))
    answer, data = client.append("Archive", "", "", message(tag))
    if answer == "OK":
        validity, uid = map(int, data[0].split(b"]")[0].split()[1:])
        place = Place(account, "Archive", uid)
        journal.done("APPEND", doubt, placed={place: Content(tag)}, validity=validity)
    else:
        assert (answer, data[0][:13]) == ("NO", b"[UNAVAILABLE]"), data
        journal.refused(doubt, repr(data))
    return answer


def _expunge(journal: Journal, client: imaplib.IMAP4, account: str) -> None:
    """Remove half of the messages that were delivered, large ones first."""
    known = journal.known(account, "INBOX")
    known.sort(key=lambda place: len(message(journal.contents[place].tag)), reverse=True)
    places = known[: len(known) // 2]
    uids = ",".join(str(place.uid) for place in places)
    doubt = journal.begin(Doubt(account, leaves=tuple(places)))
    assert client.select("INBOX")[0] == "OK"
    assert client.uid("STORE", uids, "+FLAGS.SILENT", "(\\Deleted)")[0] == "OK"
    answer, data = client.uid("EXPUNGE", uids)
    assert answer == "OK", data
    journal.done("EXPUNGE", doubt)


def full_disks(directory: Path, rounds: int, tell: Tell = quiet, *, other: int = 0) -> Figures:
    """Fill a disk of 20 MB, read, make room by IMAP and fill it again.

    Args:
        other: octets on it that are not mail.

    Returns:
        How much was taken before the disk was full, for each round.
    """
    journal = Journal(directory / "journal")
    taken: list[int] = []
    with memory_disk(directory / "disk", "20m") as disk:
        site = Site(directory, data=disk / "data")
        try:
            (disk / "other").write_bytes(bytes(other))
            site.prepare()
            site.start()
            for round_ in range(rounds):
                account = ACCOUNTS[round_ % 2]
                before = journal.acknowledged.total()
                with Lmtp(site.lmtp) as lmtp, site.session(account) as client:
                    for _ in range(MOST):
                        if (answer := _deliver(journal, lmtp, account))[:3] != "250":
                            assert answer[:9] == "452 4.3.1", answer
                            break
                    else:
                        raise AssertionError("the disk does not fill up")
                    # What is smaller may still find room.
                    while _append(journal, client, account) == "OK":
                        pass
                    taken.append(journal.acknowledged.total() - before)
                    assert taken[-1] > 20, "the room that one made is there for another"
                    journal.check(site, ACCOUNTS)  # reading goes on
                    _expunge(journal, client, account)
                    assert _deliver(journal, lmtp, account)[:3] == "250", "there is room again"
                    assert _append(journal, client, account) == "OK"
                    journal.check(site, ACCOUNTS)
                    site.verify()
                tell(round_ + 1, rounds)
            site.end()
            site.verify()
            site.start()
            journal.check(site, ACCOUNTS)
            site.end()
            assert "Traceback" not in site.log, site.log[-3000:]
        finally:
            site.abandon()
            journal.close()
    return {"rounds": rounds, "taken until full": taken}


def test_a_full_disk_refuses_mail_and_nothing_else(tmp_path: Path) -> None:  # R3
    figures = full_disks(tmp_path, 1, other=8 << 20)
    assert figures["taken until full"][0] > 50
    print(figures)
