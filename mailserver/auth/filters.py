"""Which services an account may use: the rules of `mailAllowedServiceAccess` (SUN-8).

    rules  = rule *( "$" rule )
    rule   = ( "+" / "-" ) services ":" clients

Rules with `+` are looked at first, then those with `-`; the first that matches decides.
No match grants, except that with `+` rules and no `-` rules it denies; no rules grant
(SUN-23). Here clients can only be `*` or `ALL`; a rule with other clients, and anything
that is not of this form, denies, so that a value never grants what it does not say.
"""

from __future__ import annotations

from mailserver.errors import ErrorKind, MailError

_EVERYTHING = frozenset({"*", "all"})


def allows(rules: str, service: str) -> bool:
    """Say whether the rules let the account use the service.

    Args:
        rules: as written; empty grants.
        service: `imap`, `imaps`, `pop`, …

    Raises:
        MailError: INVALID for rules that are not understood; the caller must deny.
    """
    parsed = [_parse(rule) for rule in rules.split("$")] if rules.strip() else []
    for sign in "+-":
        for own_sign, services in parsed:
            if own_sign == sign and (services & _EVERYTHING or service.lower() in services):
                return sign == "+"
    signs = {sign for sign, _ in parsed}
    return signs != {"+"}


def _parse(rule: str) -> tuple[str, frozenset[str]]:
    text = rule.strip()
    services, colon, clients = text[1:].partition(":")
    names = frozenset(services.lower().replace(",", " ").split())
    if text[:1] not in ("+", "-") or not colon or not names:
        raise MailError(ErrorKind.INVALID, f"{rule[:100]!r} is not a rule such as +imap:*")
    if clients.strip().lower() not in _EVERYTHING:
        raise MailError(
            ErrorKind.INVALID, f"clients {clients.strip()[:100]!r} are not supported, only * is"
        )
    return text[0], names
