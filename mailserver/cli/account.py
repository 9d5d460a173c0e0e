"""`mailctl account`: accounts, their passwords, limits and aliases."""

from __future__ import annotations

import csv
import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import click
from rich.console import Console
from rich.table import Table

from mailserver.auth.filters.grammar import parse_account_rules
from mailserver.cli.progress import progress
from mailserver.cli.running import fail, print_json, run, settings_of
from mailserver.cli.who import end_sessions
from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Account, AccountStatus, AppPassword
from mailserver.model.quota import QuotaRoot
from mailserver.service import options
from mailserver.service.accounts import (
    add_app_password,
    create_accounts,
    delete_account,
    set_password,
    update_account,
)
from mailserver.service.installation import Installation
from mailserver.service.kinds import size
from mailserver.store.directory.edit import AccountChanges, NewAccount

APP_PASSWORD_SERVICES = ("imap", "pop", "http", "smtp")
"""Services that an app password can be limited to."""

_GENERATED_LENGTH = 20
_SIZE = size(0)


class Limit(click.ParamType[int | str]):
    """A limit: octets with a unit, or a number of messages; `none` for no limit."""

    name = "limit"

    def __init__(self, *, octets: bool) -> None:
        self.octets = octets

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if not isinstance(value, str):
            return int(value)
        if value.lower() == "none":
            return "none"
        try:
            return _SIZE.parse(value, Path()) if self.octets else int(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


def _limit(value: int | str | None) -> int | None:
    return None if isinstance(value, str) else value


_quota = click.option(
    "--quota", type=Limit(octets=True), help="Octets it may use, e.g. 5GiB; none for no limit."
)
_message_quota = click.option(
    "--message-quota", type=Limit(octets=False), help="Messages it may hold; none for no limit."
)
_password_file = click.option(
    "--password-file",
    type=click.File("r"),
    help="Read the password from the first line of a file; - for standard input.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def account() -> None:
    """Accounts: add, list, show, set, passwd, app-password, delete, import."""


@account.command()
@click.argument("name")
@click.option("--display-name", default="", help="For people.")
@_quota
@_message_quota
@click.option("--alias", "aliases", multiple=True, help="A further address; may be repeated.")
@_password_file
@click.option("--generate", is_flag=True, help="Make up a password and print it.")
@click.option("--no-password", is_flag=True, help="Nobody can log in by password.")
@_as_json
@click.pass_context
def add(
    context: click.Context,
    name: str,
    display_name: str,
    quota: int | str | None,
    message_quota: int | str | None,
    aliases: tuple[str, ...],
    password_file: Any,
    generate: bool,
    no_password: bool,
    as_json: bool,
) -> None:
    """Make the account NAME (an address). Its domain becomes one of this server's."""
    password = "" if no_password else _password(password_file, generate)

    async def work(installation: Installation) -> Account:
        new = NewAccount(
            name,
            display_name=display_name,
            storage_limit=_limit(quota),
            message_limit=_limit(message_quota),
            aliases=aliases,
        )
        if password:
            verifiers = await installation.passwords.verifiers(password)
            new = attrs.evolve(new, verifiers=verifiers)
        [made] = await create_accounts(
            installation.directory, installation.store, [new], add_domains=True
        )
        return made

    made = run(context, work)
    if as_json:
        print_json(_plain(made) | ({"password": password} if generate else {}))
    else:
        click.echo(f"{made.name} added" + (f", password: {password}" if generate else ""))


@account.command("list")
@_as_json
@click.pass_context
def list_(context: click.Context, as_json: bool) -> None:
    """List all accounts."""

    async def work(installation: Installation) -> list[Account]:
        return list(await installation.directory.accounts())

    found = run(context, work)
    if as_json:
        print_json([_plain(one) for one in found])
        return
    table = Table("name", "status", "display name", "quota", "messages", "aliases")
    for one in found:
        table.add_row(
            one.name,
            one.status.value,
            one.display_name,
            _size_text(one.storage_limit),
            "no limit" if one.message_limit is None else str(one.message_limit),
            ", ".join(one.aliases),
        )
    Console().print(table)


@account.command()
@click.argument("name")
@_as_json
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show one account and what it uses."""

    async def work(installation: Installation) -> tuple[Account, QuotaRoot]:
        found = await find(installation, name)
        who = principal(found)
        inbox = await installation.store.find(who, "INBOX")
        [root] = await installation.store.quota_roots(who, inbox.ref)
        return found, root

    found, root = run(context, work)
    values = _plain(found) | {
        "storage_used": root.storage_used,
        "message_used": root.message_used,
    }
    if as_json:
        print_json(values)
        return
    table = Table(show_header=False)
    for key, value in values.items():
        shown = _size_text(value) if key.startswith("storage") else value
        shown = ", ".join(shown) if isinstance(shown, list) else shown
        table.add_row(key.replace("_", " "), "no limit" if shown is None else str(shown))
    Console().print(table)


@account.command("set")
@click.argument("name")
@click.option("--name", "new_name", help="A new name; mail and aliases stay.")
@click.option("--display-name")
@click.option("--status", type=click.Choice([status.value for status in AccountStatus]))
@_quota
@_message_quota
@click.option("--add-alias", multiple=True, help="A further address.")
@click.option("--remove-alias", multiple=True)
@click.option(
    "--disabled-capabilities", help="IMAP capabilities not to be shown to it, between spaces."
)
@click.option(
    "--allowed-services",
    metavar="RULES",
    help="Which services it may use from where, such as '+imaps,pops:*$+imap:192.0.2.0/24'"
    " (mailAllowedServiceAccess); empty for all.",
)
@_as_json
@click.pass_context
def set_(
    context: click.Context,
    name: str,
    new_name: str | None,
    display_name: str | None,
    status: str | None,
    quota: int | str | None,
    message_quota: int | str | None,
    add_alias: tuple[str, ...],
    remove_alias: tuple[str, ...],
    disabled_capabilities: str | None,
    allowed_services: str | None,
    as_json: bool,
) -> None:
    """Change an account; what is not named stays."""
    changes: AccountChanges = {}
    if new_name is not None:
        changes["name"] = new_name
    if display_name is not None:
        changes["display_name"] = display_name
    if status is not None:
        changes["status"] = AccountStatus(status)
    if quota is not None:
        changes["storage_limit"] = _limit(quota)
    if message_quota is not None:
        changes["message_limit"] = _limit(message_quota)
    if disabled_capabilities is not None:
        changes["disabled_capabilities"] = frozenset(disabled_capabilities.upper().split())
    if allowed_services is not None:
        changes["allowed_services"] = _rules(context, allowed_services)
    if not (changes or add_alias or remove_alias):
        fail("nothing to set; see mailctl account set --help", 64)

    async def work(installation: Installation) -> Account:
        found = await find(installation, name)
        directory = installation.directory
        for alias in add_alias:
            await directory.add_alias(alias, found.id)
        for alias in remove_alias:
            await directory.remove_alias(alias)
        return await update_account(directory, installation.store, found.id, changes)

    changed = run(context, work)
    if changed.status is not AccountStatus.ACTIVE:
        _end_sessions(context, changed, "this account has been disabled")
    if as_json:
        print_json(_plain(changed))
        return
    click.echo(f"{changed.name} changed")
    for key, value in changes.items():
        if key != "name" and getattr(changed, key) != value:
            click.echo(f"{key.replace('_', ' ')}: {changed.source} says otherwise, and that holds")


@account.command()
@click.argument("name")
@_password_file
@click.option("--generate", is_flag=True, help="Make up a password and print it.")
@click.pass_context
def passwd(context: click.Context, name: str, password_file: Any, generate: bool) -> None:
    """Set the password of an account; it holds for every login from now on."""
    password = _password(password_file, generate)

    async def work(installation: Installation) -> Account:
        found = await find(installation, name)
        await set_password(installation.directory, installation.passwords, found.id, password)
        return found

    changed = run(context, work)
    _end_sessions(context, changed, "the password of this account has been changed")
    click.echo(f"password of {changed.name} " + (f"is now: {password}" if generate else "changed"))


@account.group("app-password")
def app_password() -> None:
    """Passwords for single devices, made here: add, list, remove.

    They hold beside the account's own password, wherever that comes from, and are taken
    away one by one, as when a telephone is lost.
    """


@app_password.command("add")
@click.argument("name")
@click.argument("device")
@click.option(
    "--service",
    "services",
    multiple=True,
    type=click.Choice(APP_PASSWORD_SERVICES, case_sensitive=False),
    help="It is good for this service only; may be repeated.",
)
@_as_json
@click.pass_context
def add_(
    context: click.Context, name: str, device: str, services: tuple[str, ...], as_json: bool
) -> None:
    """Make a password for DEVICE of the account NAME, and show it this once."""

    async def work(installation: Installation) -> str:
        found = await find(installation, name)
        hashes = installation.settings.hashes
        return await add_app_password(installation.directory, hashes, found.id, device, services)

    password = run(context, work)
    if as_json:
        print_json({"name": device, "services": sorted(services), "password": password})
    else:
        click.echo(f"app password {device}: {password}")


@app_password.command("list")
@click.argument("name")
@_as_json
@click.pass_context
def list_app_passwords(context: click.Context, name: str, as_json: bool) -> None:
    """List the app passwords of the account NAME, without the passwords."""

    async def work(installation: Installation) -> Sequence[AppPassword]:
        found = await find(installation, name)
        return await installation.directory.app_passwords(found.id)

    found = run(context, work)
    if as_json:
        for one in found:
            print_json(
                {
                    "name": one.name,
                    "services": sorted(one.services),
                    "created": one.created,
                    "last_used": one.last_used,
                }
            )
        return
    table = Table("name", "services", "created", "last used")
    for one in found:
        services = ", ".join(sorted(one.services)) or "all"
        used = "never" if one.last_used is None else _time_text(one.last_used)
        table.add_row(one.name, services, _time_text(one.created), used)
    Console().print(table)


@app_password.command("remove")
@click.argument("name")
@click.argument("device")
@click.pass_context
def remove_app_password(context: click.Context, name: str, device: str) -> None:
    """Take the app password of DEVICE away from the account NAME, at once."""

    async def work(installation: Installation) -> Account:
        found = await find(installation, name)
        await installation.directory.remove_app_password(found.id, device)
        return found

    # Which sessions it has opened is not known; the others log in again by themselves.
    _end_sessions(context, run(context, work), "an app password has been taken away")
    click.echo(f"app password {device} removed")


@account.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def delete(context: click.Context, name: str, yes: bool) -> None:
    """Delete an account with all of its mail, for good."""
    if not yes:
        click.confirm(f"Delete {name} and all of its mail?", abort=True)

    async def work(installation: Installation) -> Account:
        found = await find(installation, name)
        await delete_account(installation.directory, installation.store, found.id)
        return found

    gone = run(context, work)
    _end_sessions(context, gone, "this account has been deleted")
    click.echo(f"{gone.name} deleted")


@account.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@_as_json
@click.pass_context
def import_(context: click.Context, file: str, as_json: bool) -> None:
    """Make accounts, thousands at once, from a CSV file or from JSON lines.

    CSV has a first line with the columns' names; JSON lines are objects with the same:
    name, password, display_name, quota, message_quota, aliases (in CSV between spaces).
    All are made, or none.
    """
    wanted = list(_read_accounts(file))

    async def work(installation: Installation) -> int:
        new: list[NewAccount] = []
        with progress("passwords", len(wanted), hidden=as_json) as step:
            for one, password in wanted:
                if password:
                    one = attrs.evolve(
                        one, verifiers=await installation.passwords.verifiers(password)
                    )
                new.append(one)
                step(1)
        with progress("accounts", len(new), hidden=as_json) as step:
            made = await create_accounts(
                installation.directory,
                installation.store,
                new,
                add_domains=True,
                made=lambda: step(1),
            )
        return len(made)

    made = run(context, work)
    if as_json:
        print_json({"added": made})
    else:
        click.echo(f"{made} accounts added")


def _rules(context: click.Context, text: str) -> str:
    """Check rules of access; ends the program with position and reason where they are not
    right."""
    try:
        parse_account_rules(text, settings_of(context)[options.login.DEFAULT_DOMAIN])
    except MailError as error:
        fail(f"--allowed-services: {error.text}", 65)
    return text.strip()


def _end_sessions(context: click.Context, changed: Account, reason: str) -> None:
    """End what the account has open in a running server: it holds what is not true any
    more."""
    end_sessions(settings_of(context).data, changed.name, reason)


async def find(installation: Installation, name: str) -> Account:
    """Find an account by name or alias, as its source has it now.

    Raises:
        MailError: NONEXISTENT.
    """
    found = await installation.accounts.account(name)
    if found is None:
        raise MailError(ErrorKind.NONEXISTENT, f"there is no account {name}", subject=name)
    return found


def principal(found: Account) -> Any:
    """Act as the owner of an account."""
    from mailserver.model.ids import Principal

    return Principal(found.id, found.name, "mailctl")


def _password(file: Any, generate: bool) -> str:
    """Take the password from where the options say; ask on a terminal."""
    if generate and file is not None:
        fail("give either --generate or --password-file", 64)
    if generate:
        return secrets.token_urlsafe(_GENERATED_LENGTH)[:_GENERATED_LENGTH]
    if file is not None:
        line: str = file.readline().rstrip("\r\n")
        if not line:
            fail("the password's first line is empty", 65)
        return line
    if not sys.stdin.isatty():
        fail("no password: give --password-file, --generate, or run it on a terminal", 64)
    asked: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return asked


_COLUMNS = ("name", "password", "display_name", "quota", "message_quota", "aliases")


def _read_accounts(file: str) -> Iterator[tuple[NewAccount, str]]:
    """Read the accounts of a file; ends the program with file, line and reason if it is
    not right."""
    with click.open_file(file, "rb") as stream:
        octets = stream.read()
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        fail(f"{file}:{line}: not UTF-8", 65)
    rows: Iterator[tuple[int, dict[str, Any]]]
    rows = _json_rows(file, text) if text[:1] == "{" else _csv_rows(file, text)
    for line, row in rows:
        unknown = set(row) - set(_COLUMNS)
        if unknown:
            fail(
                f"{file}:{line}: there is no column {sorted(map(str, unknown))[0]!r};"
                f" columns are {', '.join(_COLUMNS)}",
                65,
            )
        try:
            yield _new_account(row), str(row.get("password") or "")
        except ValueError as error:
            fail(f"{file}:{line}: {error}", 65)


def _json_rows(file: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            fail(f"{file}:{line}: not JSON: {error}", 65)
        if not isinstance(row, dict):
            fail(f"{file}:{line}: not a JSON object", 65)
        yield line, row


def _csv_rows(file: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        if "name" not in (reader.fieldnames or ()):
            fail(f"{file}:1: the first line names no column called name", 65)
        for row in reader:
            if None in row or None in row.values():
                fail(f"{file}:{reader.line_num}: has more or fewer values than columns", 65)
            yield reader.line_num, row
    except csv.Error as error:
        fail(f"{file}:{reader.line_num}: not CSV: {error}", 65)


def _new_account(row: dict[str, Any]) -> NewAccount:
    if not row.get("name"):
        raise ValueError("an account needs a name")
    aliases = row.get("aliases") or ()
    if not isinstance(aliases, str | list | tuple):
        raise ValueError(f"aliases: {aliases!r} is no list of addresses")
    quota, messages = row.get("quota"), row.get("message_quota")
    try:
        message_limit = None if messages in (None, "", "none") else int(str(messages))
    except ValueError:
        raise ValueError(f"message_quota: {messages!r} is not a whole number") from None
    try:
        storage_limit = None if quota in (None, "", "none") else _SIZE.parse(quota, Path())
    except ValueError as error:
        raise ValueError(f"quota: {quota!r}: {error}") from None
    return NewAccount(
        str(row["name"]),
        display_name=str(row.get("display_name") or ""),
        storage_limit=storage_limit,
        message_limit=message_limit,
        aliases=tuple(aliases.split() if isinstance(aliases, str) else map(str, aliases)),
    )


def _plain(one: Account) -> dict[str, Any]:
    return {
        "name": one.name,
        "id": one.id,
        "status": one.status.value,
        "display_name": one.display_name,
        "storage_limit": one.storage_limit,
        "message_limit": one.message_limit,
        "allowed_services": one.allowed_services,
        "mail_host": one.mail_host,
        "language": one.language,
        "disabled_capabilities": sorted(one.disabled_capabilities),
        "aliases": list(one.aliases),
        "source": one.source or "directory",
    }


def _time_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %z")


def _size_text(octets: int | None) -> str:
    return "no limit" if octets is None else _SIZE.show(octets)
