"""`mailctl mailbox`: the mailboxes of an account."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from mailserver.cli.account import find, principal
from mailserver.cli.running import print_json, run
from mailserver.model.mailbox import MailboxInfo, MailboxStatus
from mailserver.model.names import SpecialUse
from mailserver.service.installation import Installation
from mailserver.service.kinds import size

_SIZE = size(0)
_USES = {use.value.removeprefix("\\").lower(): use for use in SpecialUse}
_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def mailbox() -> None:
    """Mailboxes: list, create, delete, rename, subscribe, unsubscribe."""


@mailbox.command("list")
@click.argument("account")
@_as_json
@click.pass_context
def list_(context: click.Context, account: str, as_json: bool) -> None:
    """List the mailboxes of ACCOUNT with what is in them."""

    async def work(installation: Installation) -> list[tuple[MailboxInfo, MailboxStatus | None]]:
        who = principal(await find(installation, account))
        store = installation.store
        return [
            (info, await store.status(who, info.ref) if info.selectable else None)
            for info in await store.mailboxes(who)
        ]

    found = run(context, work)
    if as_json:
        print_json([_plain(info, status) for info, status in found])
        return
    table = Table("mailbox", "use", "subscribed", "messages", "unseen", "size")
    for info, status in found:
        counts = (
            (str(status.messages), str(status.unseen), _SIZE.show(status.size))
            if status
            else ("", "", "")
        )
        use = info.special_use.value if info.special_use else ""
        table.add_row(info.name, use, "yes" if info.subscribed else "no", *counts)
    Console().print(table)


@mailbox.command()
@click.argument("account")
@click.argument("name")
@click.option("--special-use", type=click.Choice(sorted(_USES)), help="What it is for (RFC 6154).")
@click.option("--no-subscribe", is_flag=True, help="Leave it out of the subscriptions.")
@click.pass_context
def create(
    context: click.Context, account: str, name: str, special_use: str | None, no_subscribe: bool
) -> None:
    """Make the mailbox NAME, levels separated by /, and subscribe to it."""

    async def work(installation: Installation) -> MailboxInfo:
        who = principal(await find(installation, account))
        use = _USES[special_use] if special_use else None
        made = await installation.store.create(who, name, use)
        if not no_subscribe:
            await installation.store.subscribe(who, made.name, True)
        return made

    click.echo(f"{run(context, work).name} created")


@mailbox.command()
@click.argument("account")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def delete(context: click.Context, account: str, name: str, yes: bool) -> None:
    """Delete the mailbox NAME with its messages, for good."""
    if not yes:
        click.confirm(f"Delete {name} of {account} with its messages?", abort=True)

    async def work(installation: Installation) -> None:
        await installation.store.delete(principal(await find(installation, account)), name)

    run(context, work)
    click.echo(f"{name} deleted")


@mailbox.command()
@click.argument("account")
@click.argument("old")
@click.argument("new")
@click.pass_context
def rename(context: click.Context, account: str, old: str, new: str) -> None:
    """Rename the mailbox OLD, and those below it, to NEW."""

    async def work(installation: Installation) -> None:
        await installation.store.rename(principal(await find(installation, account)), old, new)

    run(context, work)
    click.echo(f"{old} is now {new}")


@mailbox.command()
@click.argument("account")
@click.argument("name")
@click.pass_context
def subscribe(context: click.Context, account: str, name: str) -> None:
    """Subscribe ACCOUNT to NAME."""
    _subscribe(context, account, name, True)


@mailbox.command()
@click.argument("account")
@click.argument("name")
@click.pass_context
def unsubscribe(context: click.Context, account: str, name: str) -> None:
    """Take the subscription to NAME from ACCOUNT."""
    _subscribe(context, account, name, False)


def _subscribe(context: click.Context, account: str, name: str, subscribed: bool) -> None:
    async def work(installation: Installation) -> None:
        who = principal(await find(installation, account))
        await installation.store.subscribe(who, name, subscribed)

    run(context, work)
    click.echo(f"{name} {'subscribed' if subscribed else 'unsubscribed'}")


def _plain(info: MailboxInfo, status: MailboxStatus | None) -> dict[str, object]:
    values: dict[str, object] = {
        "name": info.name,
        "id": info.ref.mailbox,
        "special_use": info.special_use.value if info.special_use else None,
        "subscribed": info.subscribed,
        "selectable": info.selectable,
    }
    if status is not None:
        values |= {
            "messages": status.messages,
            "unseen": status.unseen,
            "deleted": status.deleted,
            "size": status.size,
            "uid_validity": status.uid_validity,
            "uid_next": status.uid_next,
            "highest_mod_sequence": status.highest_mod_sequence,
        }
    return values
