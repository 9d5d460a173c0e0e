"""All that an installation holds, as values that can be kept beside it and compared (R17).

Asked of the store and the directory, not of their tables: a later schema may keep the same
things elsewhere. What can be made anew at any time (envelopes, snapshots, texts for SEARCH)
is left out.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from mailserver.model.account import Account
from mailserver.model.ids import MailboxRef, Principal, Uid
from mailserver.model.message import Column
from mailserver.store.directory import Directory
from mailserver.store.limits import StoreLimits
from mailserver.store.mailstore import MailStore, open_store
from tests.store.loop import Loop

Values = dict[str, Any]
"""What JSON can hold."""

_COLUMNS = (
    Column.INTERNAL_DATE, Column.SIZE, Column.SAVE_DATE, Column.EMAIL_ID, Column.THREAD_ID,
)  # fmt: skip

_ROWS = {
    "acl": "SELECT b.name, identifier, rights FROM acl JOIN mailbox b ON b.number = mailbox",
    "seen": "SELECT account, b.name, uid FROM seen JOIN mailbox b ON b.number = mailbox",
    "tombstone": "SELECT b.name, modseq, low, high FROM tombstone"
    " JOIN mailbox b ON b.number = mailbox",
    "annotation": "SELECT coalesce(b.name, ''), entry, owner, CAST(value AS TEXT) FROM annotation"
    " LEFT JOIN mailbox b ON b.number = mailbox",
    "alias": "SELECT name, account, mailbox FROM alias",
    "import": "SELECT key FROM import",
    "name_history": "SELECT name, uid_validity FROM name_history",
    "thread": "SELECT digest, number FROM thread",
}
"""What the store keeps and gives to nobody as it is -> how to read it."""


def holdings(data: Path) -> Values:
    """Everything that users would miss; brings the data up to date, as any opening does."""
    loop = Loop()

    async def look() -> Values:
        directory = Directory.open(data / "directory.sqlite", loop)
        try:
            accounts = await directory.accounts()
            told = await _directory(directory, accounts)
        finally:
            await directory.stop()
        store = open_store(data, loop, None, limits=StoreLimits(reserve=0))
        try:
            told["mail"] = {one.name: await _account(store, one) for one in accounts}
        finally:
            await store.stop()
        return told

    told = loop.run(look())
    for name, identifier in [(one["name"], one["id"]) for one in told["accounts"]]:
        path = data / "accounts" / identifier[:2] / identifier / "mail.sqlite"
        told["mail"][name] |= rows(path)
    return plain(told)


def rows(database: Path) -> Values:
    """What the tables of one account hold that the store does not give to anybody."""
    with closing(sqlite3.connect(database)) as raw:
        return {name: sorted(raw.execute(query).fetchall()) for name, query in _ROWS.items()}


def plain(values: Values) -> Values:
    """As they are once they were written and read."""
    read: Values = json.loads(json.dumps(values, default=_plain))
    return read


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(map(_plain, value))  # type: ignore[type-var]
    return getattr(value, "value", str(value))


async def _directory(directory: Directory, accounts: Iterable[Account]) -> Values:
    domains = directory.domains()
    return {
        "domains": sorted(domains),
        "accounts": [attrs.asdict(one) for one in accounts],
        "aliases": sorted(await directory.aliases()),
        "routes": [attrs.asdict(route) for route in await directory.routes()],
        "verifiers": {one.name: (await directory.verifiers(one.id)).argon2id for one in accounts},
        "administrators": {name: await directory.administrators(name) for name in domains},
        "shared": {
            one.name: [ref._asdict() for ref in await directory.shared_with([one.name])]
            for one in accounts
        },
    }


async def _account(store: MailStore, account: Account) -> Values:
    who = Principal(account.id, account.name, account.name)
    boxes: Values = {}
    roots: Values = {}
    for info in await store.mailboxes(who):
        box = boxes[info.name] = attrs.asdict(info) | {"ref": info.ref._asdict()}
        del box["name"]
        box["rights"] = sorted(right.value for right in info.rights)
        if info.selectable:
            box["status"] = attrs.asdict(await store.status(who, info.ref))
            box |= await _mail(store, who, info.ref)
            for root in await store.quota_roots(who, info.ref):
                roots[root.name] = attrs.asdict(root)
    return {
        "mailboxes": boxes,
        "quota": roots,
        "subscriptions": sorted(await store.subscriptions(who)),
    }


async def _mail(store: MailStore, who: Principal, ref: MailboxRef) -> Values:
    image = await store.open(who, ref)
    try:
        uids = [Uid(uid) for uid in image.uids]
        found: Values = {}
        numbers = zip(image.uids, image.flag_ids, image.mod_sequences, strict=True)
        columns = await store.fetch(who, image, uids, _COLUMNS)
        for (uid, flags, mod_sequence), row in zip(numbers, columns, strict=True):
            content = await store.content(who, image, Uid(uid))
            assert content is not None
            try:
                octets = content.read(0, content.size)
            finally:
                content.close()
            assert len(octets) == content.size
            date, *rest = row[1:]
            found[str(uid)] = [
                image.flag_table[flags].names(), mod_sequence, attrs.astuple(date), *rest,
                hashlib.sha256(octets).hexdigest(),
            ]  # fmt: skip
        return {
            "mail": found,
            "keywords": list(image.keywords),
        }
    finally:
        store.close(image)
