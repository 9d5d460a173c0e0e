"""`mailctl import` and `mailctl export`: mail between accounts and files.

An import can be stopped and repeated at will: every message of an archive has a key, the
account notes the keys in the same transaction as the messages, and a message whose key is
noted is passed over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import attrs
import click
from twisted.internet.task import deferLater

from mailserver.cli.account import find, principal
from mailserver.cli.archives import eml, maildir, mbox, unique_ids
from mailserver.cli.archives.message import ArchivedMessage, ArchiveError
from mailserver.cli.progress import progress
from mailserver.cli.running import fail, print_json, run
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IMailStore, ISpooled
from mailserver.model.flags import Flags
from mailserver.model.ids import MailboxRef, Principal, Uid
from mailserver.model.mailbox import MailboxInfo
from mailserver.model.message import Column, InternalDate
from mailserver.service.installation import Installation

FORMATS: dict[str, ModuleType] = {"mbox": mbox, "maildir": maildir, "eml": eml}

BATCH_MESSAGES = 200
"""Messages of one transaction of an import."""

BATCH_OCTETS = 8 * 2**20
"""Octets after which a batch is complete."""

EXPORT_SLICE = 500
"""Messages asked for at once by an export."""

MEBI = 2**20


@attrs.define
class Tally:
    """What became of the messages of an import."""

    imported: int = 0
    already_there: int = 0
    refused: list[str] = attrs.Factory(list)


@click.command("import")
@click.argument("account")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format", "format_", type=click.Choice(sorted(FORMATS)), help="Found out if not given."
)
@click.option("--into", default="", help="Mailbox to import into; folders go below it.")
@click.option(
    "--pop3-uidl",
    default=unique_ids.DOVECOT_DEFAULT,
    metavar="FORMAT",
    show_default=True,
    help="What messages were called by POP3, so that clients know them again: the"
    " pop3_uidl_format of Dovecot, for messages that its dovecot-uidlist names in no other"
    " way; x-uidl for the header field of that name; none. Courier's list is found by itself.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def import_(
    context: click.Context,
    account: str,
    path: Path,
    format_: str | None,
    into: str,
    pop3_uidl: str,
    as_json: bool,
) -> None:
    """Import mail into ACCOUNT from PATH: an mbox file or a directory of them, a Maildir
    with its folders, an .eml file or directories of them.

    May be interrupted and repeated; nothing comes twice.
    """
    archive = FORMATS[format_ or _format_of(path)]
    messages = _messages(archive, path, into, pop3_uidl)
    started = time.monotonic()
    tally = Tally()

    async def work(installation: Installation) -> None:
        who = principal(await find(installation, account))
        total = archive.size(path)
        with progress("import", total, unit=MEBI, hidden=as_json) as step:
            await _import(installation.store, who, messages, tally, step)

    try:
        run(context, work)
    except ArchiveError as error:
        fail(str(error), 66)
    seconds = time.monotonic() - started
    rate = tally.imported / seconds if seconds else 0.0
    if as_json:
        print_json(attrs.asdict(tally) | {"seconds": round(seconds, 2)})
    else:
        click.echo(
            f"{tally.imported} imported ({rate:,.0f}/s), {tally.already_there} were there already"
        )
        for reason in tally.refused:
            click.echo(f"refused: {reason}", err=True)
    if tally.refused:
        context.exit(1)


def _messages(
    archive: ModuleType, path: Path, into: str, pop3_uidl: str
) -> Iterator[ArchivedMessage]:
    """Read an archive, with what POP3 called its messages; ends the program if `pop3_uidl`
    cannot say that."""
    choice = pop3_uidl.lower()
    uidl_format = None
    if choice not in ("x-uidl", "none"):
        try:
            uidl_format = unique_ids.check_format(pop3_uidl)
        except unique_ids.FormatError as error:
            fail(f"--pop3-uidl {error}, or x-uidl, or none", 64)
    if archive is maildir:
        messages = maildir.read(path, into, uidl_format)
    else:
        messages = archive.read(path, into)
    if choice == "x-uidl":
        return map(_named_by_itself, messages)
    return messages


def _named_by_itself(message: ArchivedMessage) -> ArchivedMessage:
    return attrs.evolve(message, unique_id=unique_ids.of_header(message.octets))


async def _import(
    store: IMailStore,
    who: Principal,
    messages: Iterator[ArchivedMessage],
    tally: Tally,
    step: Callable[[int], None],
) -> None:
    targets: dict[str, MailboxRef] = {}
    position = 0
    for batch in _batches(messages):
        mailbox = batch[0].mailbox
        if mailbox not in targets:
            targets[mailbox] = (await _target(store, who, mailbox)).ref
        await _append(store, who, targets[mailbox], batch, tally)
        step(batch[-1].position - position)
        position = batch[-1].position


def _batches(messages: Iterator[ArchivedMessage]) -> Iterator[list[ArchivedMessage]]:
    """Cut the messages into runs for one mailbox each, none too large."""
    batch: list[ArchivedMessage] = []
    octets = 0
    for message in messages:
        full = len(batch) == BATCH_MESSAGES or octets >= BATCH_OCTETS
        if batch and (full or message.mailbox != batch[0].mailbox):
            yield batch
            batch, octets = [], 0
        batch.append(message)
        octets += len(message.octets)
    if batch:
        yield batch


async def _target(store: IMailStore, who: Principal, name: str) -> MailboxInfo:
    """Find a mailbox, or make it and subscribe to it: clients show subscribed ones."""
    try:
        found = await store.find(who, name)
        if found.selectable:
            return found
    except MailError as error:
        if error.kind is not ErrorKind.NONEXISTENT:
            raise
    made = await store.create(who, name)
    await store.subscribe(who, made.name, True)
    return made


async def _append(
    store: IMailStore,
    who: Principal,
    target: MailboxRef,
    batch: list[ArchivedMessage],
    tally: Tally,
) -> None:
    now = InternalDate(int(time.time()))
    spooled: list[tuple[ISpooled, Flags, InternalDate]] = []
    keys: list[str] = []
    names: list[str | None] = []
    try:
        for message in batch:
            spool = store.spool()
            try:
                spool.write(message.octets)
                complete = await spool.finish()
            except MailError as error:
                spool.discard()
                if error.kind not in (ErrorKind.TOO_BIG, ErrorKind.BAD_MESSAGE):
                    raise
                tally.refused.append(f"{message.key}: {error.text}")
                continue
            spooled.append((complete, message.flags, message.date or now))
            keys.append(message.key)
            names.append(message.unique_id)
        if spooled:
            added = len((await store.append(who, target, spooled, keys, names)).target)
            tally.imported += added
            tally.already_there += len(spooled) - added
    finally:
        for complete, _, _ in spooled:
            complete.discard()


def _format_of(path: Path) -> str:
    """Find out what kind of archive is at a path; ends the program if it is none."""
    if path.is_dir():
        if (path / "cur").is_dir():
            return "maildir"
        if next(path.rglob("*.eml"), None) is not None:
            return "eml"
        return "mbox"
    with path.open("rb") as file:
        start = file.read(5)
    if start == b"From ":
        return "mbox"
    if path.suffix.lower() == ".eml":
        return "eml"
    fail(f"{path}: neither mbox nor Maildir nor .eml; say which with --format", 65)


@click.command()
@click.argument("account")
@click.argument("path", type=click.Path(file_okay=False, path_type=Path))
@click.option("--format", "format_", type=click.Choice(sorted(FORMATS)), default="maildir")
@click.option("--mailbox", "names", multiple=True, help="Only this one; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def export(
    context: click.Context,
    account: str,
    path: Path,
    format_: str,
    names: tuple[str, ...],
    as_json: bool,
) -> None:
    """Export the mail of ACCOUNT below the directory PATH.

    May be interrupted and repeated; what is there already is not written again.
    """
    writer = FORMATS[format_].Writer(path)

    async def work(installation: Installation) -> int:
        store = installation.store
        who = principal(await find(installation, account))
        chosen = (
            [await store.find(who, name) for name in names]
            if names
            else [info for info in await store.mailboxes(who) if info.selectable]
        )
        statuses = [await store.status(who, info.ref) for info in chosen]
        total = sum(status.messages for status in statuses)
        written = 0
        with progress("export", total, hidden=as_json) as step:
            for info in chosen:
                if writer.begin(info.name):
                    written += await _export(store, who, info, writer.write, step)
                    writer.end()
        return written

    try:
        written = run(context, work)
    except (ArchiveError, OSError) as error:
        fail(str(error), 73)
    if as_json:
        print_json({"exported": written})
    else:
        click.echo(f"{written} messages exported to {path}")


async def _export(
    store: IMailStore,
    who: Principal,
    info: MailboxInfo,
    write: Callable[[int, bytes, Flags, InternalDate], None],
    step: Callable[[int], None],
) -> int:
    from twisted.internet import reactor

    image = await store.open(who, info.ref)
    try:
        count = 0
        uids = [Uid(uid) for uid in image.uids]
        flags = dict(zip(image.uids, image.flag_ids, strict=True))
        for at in range(0, len(uids), EXPORT_SLICE):
            left = uids[at : at + EXPORT_SLICE]
            dates = dict(await store.fetch(who, image, left, (Column.INTERNAL_DATE,)))
            while left:
                batch = await store.contents(who, image, left, BATCH_OCTETS)
                for uid, content in batch:
                    octets = content.read(0, content.size)
                    content.close()
                    write(uid, octets, image.flag_table[flags[uid]], dates[uid])
                count += len(batch)
                step(len(batch))
                left = [uid for uid in left if uid > batch[-1][0]] if batch else []
                await deferLater(reactor, 0)  # an interrupt is heard here
        return count
    finally:
        store.close(image)
