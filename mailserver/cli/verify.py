"""`mailctl verify` and `mailctl repair`: is all mail as it should be, and if not, made so.

They work on the files alone, so that they run when the server cannot.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click

from mailserver.cli.progress import progress
from mailserver.cli.running import EXIT_CODES, act_as_owner, fail, print_json, settings_of
from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Account
from mailserver.model.ids import AccountId
from mailserver.store.maintenance.backup import NOTE, check_copy
from mailserver.store.maintenance.layout import (
    ACCOUNT_ID,
    DIRECTORY_DATABASE,
    account_directory,
    accounts_on_disk,
)
from mailserver.store.maintenance.repair import Repaired, repair_account
from mailserver.store.maintenance.verify import (
    Finding,
    Severity,
    is_sound,
    open_read_only,
    verify_account,
    verify_installation,
)

_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
_names = click.argument("names", metavar="[ACCOUNT]...", nargs=-1)


def data_directory(context: click.Context) -> Path:
    """The data directory of the configuration, to be worked on as its owner."""
    data = settings_of(context).data
    os.umask(0o077)
    act_as_owner(data)
    if not data.is_dir():
        fail(f"{data}: there is no such directory", EXIT_CODES[ErrorKind.NONEXISTENT])
    return data


def known_accounts(data: Path) -> dict[AccountId, Account]:
    """The accounts of the directory, also of one that the store would not open; those
    that only have data are known by their ids."""
    accounts = {one: Account(one, one) for one in accounts_on_disk(data)}
    try:
        directory = open_read_only(data / DIRECTORY_DATABASE)
        try:
            rows = directory.execute("SELECT id, name, storage_limit, message_limit FROM account")
            for identifier, name, storage, messages in rows:
                accounts[AccountId(identifier)] = Account(
                    AccountId(identifier), name, storage_limit=storage, message_limit=messages
                )
        finally:
            directory.close()
    except sqlite3.Error:
        pass  # verify says what is wrong with it
    return accounts


def chosen_accounts(known: dict[AccountId, Account], names: tuple[str, ...]) -> list[Account]:
    """The accounts of these names or ids, all if there are none; ends the program for one
    that is not there."""
    if not names:
        return sorted(known.values(), key=lambda one: one.name)
    by_name = {one.name: one for one in known.values()} | {
        str(one.id): one for one in known.values()
    }
    for name in names:
        if name.lower() not in by_name:
            fail(f"there is no account {name}", EXIT_CODES[ErrorKind.NONEXISTENT])
    return [by_name[name.lower()] for name in names]


def octets_of(data: Path, account: Account) -> int:
    """Octets on disk of an account, for progress; at least 1."""
    if not ACCOUNT_ID.fullmatch(account.id):
        return 1
    files = account_directory(data, account.id).rglob("*")
    return sum(path.lstat().st_size for path in files if path.is_file()) or 1


def _verified(
    data: Path, accounts: list[Account], quick: bool, hidden: bool
) -> Iterator[tuple[Account, list[Finding]]]:
    sizes = [octets_of(data, one) for one in accounts]
    with progress("verify", sum(sizes), unit=2**20, hidden=hidden) as step:
        for account, size in zip(accounts, sizes, strict=True):
            left = size

            def advance(octets: int) -> None:
                nonlocal left
                octets = min(octets, left)
                left -= octets
                step(octets)

            yield account, verify_account(data, account.id, advance, quick=quick)
            step(left)


@click.command()
@_names
@click.option("--quick", is_flag=True, help="Do not read the octets of messages.")
@click.option(
    "--at",
    "place",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Look at this backup, or data directory, instead.",
)
@_as_json
@click.pass_context
def verify(
    context: click.Context, names: tuple[str, ...], quick: bool, place: Path | None, as_json: bool
) -> None:
    """Look whether all mail is as it should be, of all accounts or of these.

    Changes nothing, and works beside a running server. Exit code 0 if nothing has to be
    done, 1 if something has.
    """
    data = place or data_directory(context)
    known = known_accounts(data)
    accounts = chosen_accounts(known, names)
    copy = (data / NOTE).exists()
    findings = [] if names else verify_installation(data)
    if copy:
        findings += check_copy(data, None)
    for account, found in _verified(data, accounts, quick, as_json):
        directory = account_directory(data, account.id)
        findings += found if directory.is_dir() or names else []  # else it is told already
        if copy and directory.is_dir():
            findings += check_copy(directory, account.id)
    if as_json:
        print_json(
            {
                "accounts": len(accounts),
                "clean": is_sound(findings),
                "findings": [_plain(finding, known) for finding in findings],
            }
        )
    else:
        for finding in findings:
            click.echo(_line(finding, known))
        counts = {kind: sum(one.severity is kind for one in findings) for kind in Severity}
        words = ", ".join(f"{count} {kind.value}s" for kind, count in counts.items() if count)
        click.echo(f"{len(accounts)} accounts: {words or 'all is well'}")
    context.exit(0 if is_sound(findings) else 1)


@click.command()
@_names
@click.option("--force", is_flag=True, help="Also accounts in which nothing is wrong.")
@_as_json
@click.pass_context
def repair(context: click.Context, names: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Make damaged accounts anew from all that can be read of them; all that have
    findings, or these.

    Every intact message is kept, and the old database as mail.sqlite.damaged-…. An account
    that another process has open is refused: stop the server first. Exit code 0 if nothing
    is lost and nothing had to be left, else 1.
    """
    data = data_directory(context)
    known = known_accounts(data)
    accounts = chosen_accounts(known, names)
    done: list[Repaired] = []
    failed: list[tuple[Account, str]] = []
    for account, found in _verified(data, accounts, quick=False, hidden=as_json):
        if is_sound(found) and not force:
            continue
        try:
            done.append(repair_account(data, account))
        except (MailError, OSError) as error:
            failed.append((account, error.text if isinstance(error, MailError) else str(error)))
    if as_json:
        print_json(
            {
                "repaired": [
                    {"name": known[one.account].name}
                    | attrs.asdict(one, value_serializer=lambda _, __, v: _text_of_path(v))
                    for one in done
                ],
                "failed": [{"name": account.name, "why": why} for account, why in failed],
            }
        )
    else:
        for one in done:
            _tell(known[one.account].name, one)
        for account, why in failed:
            click.echo(f"{account.name}: {why}", err=True)
        if not done and not failed:
            click.echo("nothing needs to be repaired")
    context.exit(1 if failed or any(one.lost for one in done) else 0)


def _text_of_path(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _tell(name: str, done: Repaired) -> None:
    click.echo(f"{name}: {done.messages} messages kept; the old database is {done.kept}")
    if done.recovered:
        click.echo(f"  {done.recovered} of them are in the mailbox Recovered")
    for mailbox in done.renumbered:
        click.echo(f"  {mailbox}: has a new UIDVALIDITY")
    for lost in done.lost:
        where = f"{lost.mailbox or 'unknown mailbox'} UID {lost.uid or '?'}"
        click.echo(f"  lost: {where} {lost.subject!r}: {lost.why}")
    if done.aside is not None:
        click.echo(f"  what is left of lost messages is in {done.aside}")


def _plain(finding: Finding, known: dict[AccountId, Account]) -> dict[str, object]:
    account = known.get(finding.account) if finding.account else None
    return {
        "severity": finding.severity.value,
        "account": account.name if account else finding.account,
        "mailbox": finding.mailbox,
        "what": finding.what,
        "mend": finding.mend,
    }


def _line(finding: Finding, known: dict[AccountId, Account]) -> str:
    plain = _plain(finding, known)
    where = ": ".join(str(plain[key]) for key in ("account", "mailbox") if plain[key])
    return (
        f"{finding.severity.value:<8}{where + ': ' if where else ''}{finding.what} ({finding.mend})"
    )
