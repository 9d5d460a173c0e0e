"""`mailctl access explain`: who may use what from where, and which rule says so (SUN-25)."""

from __future__ import annotations

import sys
from typing import Any

import attrs
import click

from mailserver.auth.filters.access import Explanation, filter_name
from mailserver.auth.filters.grammar import SERVICES
from mailserver.cli.account import find
from mailserver.cli.running import fail, print_json, run
from mailserver.model.account import AccountStatus
from mailserver.service.installation import Installation


@click.group()
def access() -> None:
    """Who may connect, and who may use which service."""


@access.command()
@click.argument("service")
@click.argument("user")
@click.argument("address")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def explain(context: click.Context, service: str, user: str, address: str, as_json: bool) -> None:
    """Tell whether USER may use SERVICE from ADDRESS, and the rule that decides.

    It asks what the server asks, names in the DNS included: the filters of the service
    (service.X.domainallowed, service.X.domainnotallowed), then the account's own rules.
    Exit code 0: granted, 1: denied.
    """
    if filter_name(service) not in SERVICES:
        fail(f"there is no service {service}: {', '.join(SERVICES)}", 64)

    async def work(installation: Installation) -> tuple[str, AccountStatus, Explanation]:
        found = await find(installation, user)
        return (
            found.name,
            found.status,
            await installation.access.at_login(service, address, found),
        )

    name, status, decision = run(context, work)
    granted = decision.granted and status is AccountStatus.ACTIVE
    deciding = decision.deciding
    if as_json:
        shown: dict[str, Any] = {
            "granted": granted,
            "service": filter_name(service),
            "account": name,
            "status": status.value,
            "address": address,
            "name": decision.name,
            "rule": deciding.rule,
            "reason": deciding.reason,
            "steps": [attrs.asdict(step) for step in decision.steps],
        }
        print_json(shown)
    else:
        click.echo(f"{'granted' if granted else 'denied'}: {decision.reason}")
        if decision.name:
            click.echo(f"name of {address}: {decision.name}")
        for step in decision.steps:
            word = "granted" if step.granted else "denied"
            click.echo(f"  {step.question}: {word}, {step.reason}")
        if status is not AccountStatus.ACTIVE:
            click.echo(f"  {name}: denied, the account is {status.value}")
    sys.exit(0 if granted else 1)
