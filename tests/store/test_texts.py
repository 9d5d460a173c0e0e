"""The kept text of messages: made some time after they came, and always anew if need be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.trial import unittest

from mailserver.model.account import Recipient
from mailserver.model.flags import Flags
from mailserver.model.search import Body, Header, Text
from mailserver.store import texts
from mailserver.store.mailstore import open_store
from tests.contract.rig import MAIL, Rig, open_sqlite
from tests.contract.test_messages import LARGE


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "data", open_sqlite)
    yield made
    made.close()


def text_file(rig: Rig) -> Path:
    return rig.data / "accounts" / rig.ann.id[:2] / rig.ann.id / "text.sqlite"


def kept(rig: Rig) -> list[int]:
    with sqlite3.connect(text_file(rig)) as raw:
        rows = raw.execute("SELECT message FROM text ORDER BY message").fetchall()
    raw.close()
    return [row[0] for row in rows]


def settle(rig: Rig) -> None:
    """Let time pass until all delayed work is done."""
    for _ in range(50):
        rig.loop.advance(1)
        rig.run(rig.store._engine.work(lambda: None, texts.THREAD))
        rig.loop.turn()


def find(rig: Rig, *wanted: str) -> list[list[int]]:
    image = rig.image()
    return [list(rig.run(rig.store.search(rig.who, image, Text(text)))) for text in wanted]


def test_new_mail_is_decoded_after_a_while(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "BATCH", 3)
    rig.append(*[MAIL] * 7, LARGE)
    assert not text_file(rig).exists()
    settle(rig)
    assert kept(rig) == list(range(1, 9))
    decoded: list[int] = []
    monkeypatch.setattr(texts, "search_text", decoded.append)
    assert find(rig, "hello", "0123456789abcde") == [[1, 2, 3, 4, 5, 6, 7], [8]]
    assert decoded == []


def test_what_is_not_kept_yet_is_found_all_the_same(rig: Rig) -> None:
    rig.append(MAIL, LARGE)
    assert find(rig, "hello", "abcde") == [[1], [2]]
    assert kept(rig) == [1, 2]


def test_a_stream_of_mail_is_kept_up_with(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst is waited for, but not for ever; what comes while a batch is decoded does not
    put the next one off for long."""
    monkeypatch.setattr(texts, "BATCH", 1)
    rig.append(*[MAIL] * 3)
    waited = 0.0
    while waited < texts.PATIENCE:
        waited += texts.QUIET
        rig.store._texts.changed(rig.ann.id, arrived=True, left=False)
        rig.loop.advance(texts.QUIET)
        assert not text_file(rig).exists()
    rig.loop.advance(texts.QUIET)
    for done in ([1], [1, 2], [1, 2, 3]):
        rig.store._texts.changed(rig.ann.id, arrived=True, left=False)
        rig.run(rig.store._engine.work(lambda: None, texts.THREAD))
        rig.loop.turn()
        assert kept(rig) == done
        rig.loop.advance(texts.BUSY_DELAY)


def test_while_there_is_other_work_mail_is_not_read_for_some_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that keeps the reactor at work is not slowed down by mail that came before."""
    monkeypatch.setattr(texts, "BATCH", 1)
    share = 2 * texts.LITTLE
    at_work = [0.0]
    monkeypatch.setattr(texts, "thread_time", lambda: at_work[0])

    def wait(seconds: float) -> None:
        at_work[0] += share * seconds
        rig.loop.advance(seconds)
        rig.run(rig.store._engine.work(lambda: None, texts.THREAD))
        rig.loop.turn()

    rig.append(*[MAIL] * 4)
    for _ in range(int(texts.PATIENCE / texts.QUIET)):
        wait(texts.QUIET)
        assert not text_file(rig).exists()
    wait(texts.QUIET)
    assert kept(rig) == [1]
    wait(texts.BATCH_DELAY)
    assert kept(rig) == [1]
    wait(texts.BUSY_DELAY)
    assert kept(rig) == [1, 2]
    share = texts.LITTLE / 2
    wait(texts.BUSY_DELAY)
    assert kept(rig) == [1, 2, 3]
    wait(texts.BATCH_DELAY)
    assert kept(rig) == [1, 2, 3, 4]


def test_patience_begins_anew_and_nothing_begins_after_the_end(rig: Rig) -> None:
    waiting = rig.store._texts
    waiting.changed(rig.ann.id, arrived=True, left=False)
    waiting.changed(rig.ann.id, arrived=True, left=False)
    rig.loop.advance(texts.QUIET)
    assert waiting._put_off == texts.QUIET
    rig.run(waiting.drop(rig.ann.id))
    rig.loop.advance(texts.QUIET)
    assert waiting._put_off == 0
    rig.run(waiting.stop())
    waiting._later(texts.QUIET)
    assert waiting._call is None


def test_to_look_into_headers_bodies_need_not_be_decoded(rig: Rig) -> None:
    long = b"Subject: long\r\n" + b"X-Filler: f\r\n" * 6000 + b"X-Last: hello\r\n\r\nText.\r\n"
    rig.append(MAIL, LARGE, long)
    rig.deliver(LARGE, prefix=b"Delivered-To: Ann\r\n")
    image = rig.image()

    def found(field: str, text: str) -> list[int]:
        return list(rig.run(rig.store.search(rig.who, image, Header(field, text))))

    asked = [("subject", "HELLO"), ("x-last", "hello"), ("delivered-to", "ann"), ("bcc", "")]
    before = [found(*each) for each in asked]
    assert before == [[1], [3], [4], []]
    assert kept(rig) == [3]  # its header is too long to be kept beside the description
    find(rig, "anything")
    assert kept(rig) == [1, 2, 3, 4]
    assert [found(*each) for each in asked] == before


def test_mail_that_another_process_brought_is_decoded_once_it_is_looked_at(rig: Rig) -> None:
    second = open_store(rig.data, rig.loop, limits=rig.limits, eager_texts=False)
    message = second.spool()
    message.write(MAIL)
    spooled = rig.run(message.finish())
    rig.run(second.deliver(Recipient("ann", rig.ann), spooled, b""))
    rig.run(second.stop())
    settle(rig)
    assert not text_file(rig).exists()
    rig.image()
    settle(rig)
    assert kept(rig) == [1]


def test_removed_mail_is_forgotten(rig: Rig) -> None:
    rig.append(MAIL, MAIL, MAIL)
    settle(rig)
    rig.expunge(rig.image(), 1, 3)
    settle(rig)
    assert kept(rig) == [2]


def test_a_store_that_only_brings_mail_decodes_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "data", open_sqlite)
    rig.close()
    rig.store = open_store(rig.data, rig.loop, limits=rig.limits, eager_texts=False)
    rig.append()
    settle(rig)
    assert not text_file(rig).exists()
    assert find(rig, "hello") == [[1]]
    rig.close()


class Damage(unittest.TestCase):
    """Trial's TestCase, for the log."""

    def test_a_damaged_file_is_made_anew(self) -> None:
        for damage in (b"noise" * 1000, b""):
            rig = Rig(Path(self.mktemp()), open_sqlite)
            rig.append(MAIL, LARGE)
            settle(rig)
            rig.restart()
            text_file(rig).write_bytes(damage)
            self.assertEqual(find(rig, "hello", "abcde", "nothing"), [[1], [2], []])
            rig.append(MAIL)
            settle(rig)
            self.assertEqual(kept(rig), [1, 2, 3])
            rig.close()

    def test_a_file_damaged_while_open(self) -> None:
        rig = Rig(Path(self.mktemp()), open_sqlite)
        rig.append(*[b"Subject: word\r\n\r\n" + b"filler " * 900] * 50)
        settle(rig)
        for name in ("text.sqlite", "text.sqlite-wal"):
            path = text_file(rig).with_name(name)
            path.write_bytes(b"\xff" * path.stat().st_size)
        self.assertEqual(find(rig, "word"), [list(range(1, 51))])
        rig.close()

    def test_another_accounts_file_or_format_is_not_used(self) -> None:  # R6
        rig = Rig(Path(self.mktemp()), open_sqlite)
        rig.append(MAIL)
        settle(rig)
        rig.restart()
        for change in ("account = 'x'", "format = 0"):
            with sqlite3.connect(text_file(rig)) as raw:
                raw.execute(f"UPDATE state SET {change}")
                raw.execute("UPDATE text SET body = 'wrong'")
            raw.close()
            self.assertEqual(find(rig, "wrong", "hello"), [[], [1]])
            rig.restart()
        rig.close()


def test_few_files_are_open_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "OPEN_FILES", 2)
    for n in range(5):
        other = rig.other(f"user{n}@example.org")
        rig.deliver(to=other)
        who = rig.principal(other)
        image = rig.run(rig.store.open(who, rig.ref("INBOX", other)))
        assert list(rig.run(rig.store.search(who, image, Body("text")))) == [1]
    assert len(rig.store._texts._files) == 2


def test_a_message_whose_file_is_gone_is_not_found_and_stops_nothing(rig: Rig) -> None:
    rig.append(LARGE, MAIL)
    [file] = rig.data.rglob("files/*/*")
    file.unlink()
    assert find(rig, "abcde", "hello") == [[], [2]]


def test_an_account_is_removed_with_its_texts(rig: Rig) -> None:
    rig.append(MAIL)
    settle(rig)
    rig.append(MAIL)  # work is waiting
    rig.run(rig.store.delete_account(rig.ann.id))
    settle(rig)
    assert not text_file(rig).parent.exists()
    rig.run(rig.store.create_account(rig.ann))
    assert find(rig, "hello") == [[]]


CASES = [
    (texts.Probe(b"b", True, True), True),
    (texts.Probe(b"body", False, True), True),
    (texts.Probe(b"body", True, False), False),
    (texts.Probe(b"va", True, False, b"name"), True),
    (texts.Probe(b"name", True, False, b"name"), False),
    (texts.Probe(b"", True, False, b"name"), True),
    (texts.Probe(b"", True, False, b"ame"), False),
    (texts.Probe(b"", True, False, b"empty"), True),
    (texts.Probe(b"second", True, False, b"twice"), True),
    (texts.Probe(b"first", True, False, b"twice"), True),
    (texts.Probe(b"x: hidden", True, False, b"twice"), False),
]


@pytest.mark.parametrize(("probe", "holds"), CASES, ids=str)
def test_probes(probe: texts.Probe, holds: bool) -> None:
    header = b"name: value b\ntwice: first\ntwice: second\nempty: \nx: hidden\n"
    assert probe.holds(header, b"the body") is holds


def test_text_that_utf8_cannot_hold(rig: Rig) -> None:
    rig.append((b"Subject: a\xff\xed\xa0\x80b\r\n\r\n", Flags()))
    image = rig.image()
    found = rig.run(rig.store.search(rig.who, image, Header("subject", "b\ud800")))
    assert list(found) == []
    assert list(rig.run(rig.store.search(rig.who, image, Header("subject", "b")))) == [1]
