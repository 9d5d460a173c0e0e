"""The one evaluator of access (SUN-25): filters of the service, then rules of the account.

A connection is refused as soon as nothing that is still unknown could let it in; what
depends on who logs in is decided at login. Both ask here, and so does
`mailctl access explain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from mailserver.auth.filters.grammar import ALIASES, parse_account_rules
from mailserver.auth.filters.names import ClientNames
from mailserver.auth.filters.rules import Client, Lookup, Rule, Verdict, decide
from mailserver.errors import MailError
from mailserver.model.account import Account

_WITH_TLS: Final = {"imaps": "imap", "pops": "pop", "https": "http"}


def filter_name(service: str) -> str:
    """What filters call a listener: `pop` for `pop3`."""
    return ALIASES.get(service.lower(), service.lower())


@attrs.frozen
class Step:
    """One question and its answer.

    Attributes:
        question: whose rules were asked, for people.
        granted: None if it depends on what is not known yet.
        rule: the text of the rule that decided, empty if none matched.
        reason: a sentence without its full stop.
    """

    question: str
    granted: bool | None
    rule: str
    reason: str


@attrs.frozen
class Explanation:
    """A decision with what led to it.

    Attributes:
        granted: the decision; what is not certain is refused.
        open: it depends on who logs in, and is not refused before.
        name: what is known of the client's name, for people; empty if nobody asked.
        steps: in the order in which they were taken; the last one decided.
    """

    granted: bool
    open: bool
    name: str
    steps: tuple[Step, ...]

    @property
    def deciding(self) -> Step:
        """The step that decided."""
        return self.steps[-1]

    @property
    def reason(self) -> str:
        """Whose rules decided and why, for the log."""
        return f"{self.deciding.question}: {self.deciding.reason}"


class Access:
    """Decides who may connect and who may use what.

    Args:
        names: finds clients' names; None knows none, so that what depends on them is
            refused.

    Attributes:
        filters: of each service by the name of its plain port (`imap`, `pop`, `lmtp`); may
            be replaced at any time, as may
        default_domain: of users in rules that are written without one.
    """

    def __init__(
        self,
        names: ClientNames | None = None,
        filters: Mapping[str, Sequence[Rule]] | None = None,
        default_domain: str = "",
    ) -> None:
        self.filters = dict(filters or {})
        self.default_domain = default_domain
        self._names = names

    async def at_connect(self, service: str, address: str) -> Explanation:
        """Decide about a connection before anybody has logged in; waits only where a name
        matters.

        Args:
            service: name of the listener.
            address: the client's, as the transport tells it.
        """
        return await self._explained(filter_name(service), Client.at(address), None)

    async def at_login(self, service: str, address: str, account: Account) -> Explanation:
        """Decide about an account that has shown who it is; arguments as `at_connect`."""
        client = attrs.evolve(Client.at(address), user=account.name)
        return await self._explained(filter_name(service), client, account)

    async def _explained(
        self, service: str, client: Client, account: Account | None
    ) -> Explanation:
        steps: list[Step] = []
        filters = self.filters.get(_WITH_TLS.get(service, service), ())
        verdict, client = await self._decided(filters, service, client)
        steps.append(_step(f"filters of {service}", verdict))
        is_open = verdict.granted is None and account is None and asks_user(filters)
        if account is not None and verdict.granted:
            question = f"rules of {account.name}"
            try:
                rules = parse_account_rules(account.allowed_services, self.default_domain)
            except MailError as error:
                reason = f"mailAllowedServiceAccess: {error.text}"
                steps.append(Step(question, False, account.allowed_services, reason))
            else:
                verdict, client = await self._decided(rules, service, client)
                steps.append(_step(question, verdict))
        name = "" if client.name is Lookup.PENDING else str(_told(client))
        return Explanation(bool(steps[-1].granted), is_open, name, tuple(steps))

    async def _decided(
        self, rules: Sequence[Rule], service: str, client: Client
    ) -> tuple[Verdict, Client]:
        """Decide, and look the name up if it could change the decision."""
        verdict = decide(rules, service, client)
        is_asked = any(rule.asks_name for rule in rules)
        if verdict.granted is not None or client.name is not Lookup.PENDING or not is_asked:
            return verdict, client
        assert client.address is not None, "who has no address has a name"
        name = Lookup.FAILED if self._names is None else await self._names.name_of(client.address)
        client = attrs.evolve(client, name=name)
        return decide(rules, service, client), client


def asks_user(rules: Sequence[Rule]) -> bool:
    """Say whether who logs in may matter to rules."""
    return any(pattern.user for rule in rules for pattern in rule.clients.every())


def _step(question: str, verdict: Verdict) -> Step:
    rule = "" if verdict.rule is None else verdict.rule.text
    return Step(question, verdict.granted, rule, verdict.reason)


def _told(client: Client) -> str:
    return client.name.value if isinstance(client.name, Lookup) else client.name
