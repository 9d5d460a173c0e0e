"""`mailctl backup` and `mailctl restore`: copies of a running server's mail, and their way back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import click

from mailserver.cli.progress import progress
from mailserver.cli.running import EXIT_CODES, act_as_owner, fail, print_json, settings_of
from mailserver.cli.verify import (
    chosen_accounts,
    data_directory,
    known_accounts,
    octets_of,
)
from mailserver.errors import MailError
from mailserver.model.account import Account
from mailserver.service.kinds import size
from mailserver.store.maintenance.backup import (
    BackedUp,
    Restored,
    backup_account,
    backup_directory,
    restore_account,
    restore_directory,
    restore_row,
)

_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
_names = click.argument("names", metavar="[ACCOUNT]...", nargs=-1)
_SIZE = size(0)
_MEBI = 2**20


@click.command()
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@_names
@_as_json
@click.pass_context
def backup(context: click.Context, target: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Copy all accounts, or these, to the directory TARGET.

    Works beside a running server; each account is copied as it is at one moment. Into the
    same TARGET again, only accounts that have changed are copied, and of their large
    messages only new ones. Exit code 0 if all of it is copied and sound.
    """
    target = target.absolute()
    data = data_directory(context)
    try:
        backup_directory(data, target)
    except MailError as error:
        fail(error.text, EXIT_CODES.get(error.kind, 1))
    known = known_accounts(target if not names else data)
    accounts = chosen_accounts(known_accounts(data) if names else _of_directory(known), names)
    done: list[BackedUp] = []
    failed: list[tuple[Account, str]] = []
    sizes = [octets_of(data, one) for one in accounts]
    with progress("backup", sum(sizes), unit=_MEBI, hidden=as_json) as step:
        for account, octets in zip(accounts, sizes, strict=True):
            try:
                done.append(backup_account(data, target, account.id))
            except MailError as error:
                failed.append((account, error.text))
            step(octets)
    failed += [
        (
            known.get(one.account, Account(one.account, one.account)),
            f"file {digest[:12]}… is damaged",
        )
        for one in done
        for digest in one.damaged
    ]
    copied = [one for one in done if one.copied]
    if as_json:
        print_json(
            {
                "copied": len(copied),
                "unchanged": len(done) - len(copied),
                "octets": sum(one.octets for one in copied),
                "failed": _plain_failures(failed),
            }
        )
    else:
        amount = _SIZE.show(sum(one.octets for one in copied))
        unchanged = len(done) - len(copied)
        click.echo(f"{len(copied)} accounts copied ({amount}), {unchanged} have not changed")
        _tell_failures(failed)
    context.exit(1 if failed else 0)


def _of_directory(known: dict[Any, Account]) -> dict[Any, Account]:
    """Leave out what lies on disk and has no name: a crash left it."""
    return {one: account for one, account in known.items() if account.name != one}


@click.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_names
@click.option(
    "--to",
    "place",
    type=click.Path(file_okay=False, path_type=Path),
    help="Restore to this data directory instead of the configuration's.",
)
@click.option(
    "--renumber",
    is_flag=True,
    help="Give every mailbox a new UIDVALIDITY: when accounts are lost that may have got mail"
    " after the backup.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_as_json
@click.pass_context
def restore(
    context: click.Context,
    source: Path,
    names: tuple[str, ...],
    place: Path | None,
    renumber: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Put all accounts of the backup SOURCE, or these, back as they were.

    An account that is there is replaced; its database is kept as mail.sqlite.replaced-…,
    and mailboxes whose clients know newer mail get a new UIDVALIDITY. An account that
    another process has open is refused: stop the server first.
    """
    source = source.absolute()
    data = place.absolute() if place else settings_of(context).data
    os.umask(0o077)
    act_as_owner(data)
    known = known_accounts(source)
    accounts = [one for one in chosen_accounts(known, names) if octets_of(source, one) > 1]
    if not yes and not as_json:
        click.confirm(f"Put {len(accounts)} accounts back into {data}?", abort=True)
    done: list[Restored] = []
    failed: list[tuple[Account, str]] = []
    try:
        restore_directory(source, data)
    except MailError as error:
        fail(error.text, EXIT_CODES.get(error.kind, 1))
    with progress("restore", len(accounts), hidden=as_json) as step:
        for account in accounts:
            try:
                done.append(restore_account(source, data, account.id, renumber=renumber))
                restore_row(source, data, account.id)
            except MailError as error:
                failed.append((account, error.text))
            step(1)
    if as_json:
        print_json(
            {
                "restored": [
                    {"name": known[one.account].name}
                    | attrs.asdict(one)
                    | {"kept": str(one.kept) if one.kept else None}
                    for one in done
                ],
                "failed": _plain_failures(failed),
            }
        )
    else:
        click.echo(f"{len(done)} accounts restored")
        for one in done:
            for mailbox in one.renumbered:
                click.echo(f"{known[one.account].name}: {mailbox} has a new UIDVALIDITY")
        _tell_failures(failed)
    context.exit(1 if failed else 0)


def _plain_failures(failed: list[tuple[Account, str]]) -> list[dict[str, str]]:
    return [{"name": account.name, "why": why} for account, why in failed]


def _tell_failures(failed: list[tuple[Account, str]]) -> None:
    for account, why in failed:
        click.echo(f"{account.name}: {why}", err=True)
