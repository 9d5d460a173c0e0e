"""What filters say: the reference's cases, and a table of everything else (SUN-20 … SUN-25)."""

from __future__ import annotations

from itertools import count

import pytest

from mailserver.auth.filters.grammar import parse_account_rules, parse_filters
from mailserver.auth.filters.rules import Client, Lookup, Name, decide
from mailserver.errors import ErrorKind, MailError
from tests.timing import assert_linear

A, B = "192.0.2.7", "198.51.100.9"
ANN = "ann@example.org"

# Which of these are granted; the address has the name server1.example.com unless said.
SERVICES = "imap imaps pop pops http https smtp lmtp".split()


def client(address: str = A, name: Name = "server1.example.com", user: str | None = ANN) -> Client:
    at = Client.at(address)
    return Client(at.address, at.name if at.address is None else name, user)


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        # SUN-24, word for word
        ("+imap,pop,http:*", "imap pop http"),
        ("+imap:ALL$+pop:ALL$+http:ALL", "imap pop http"),
        ("-imap:*$-pop:*$-http:*", "imaps pops https smtp lmtp"),
        ("-ALL:ALL EXCEPT server1.example.com", "imap imaps pop pops http https smtp lmtp"),
        ("+imaps,pops:*$+imap,pop:192.0.2.7", "imap imaps pop pops"),
        # SUN-23: no rules; no match
        ("", "imap imaps pop pops http https smtp lmtp"),
        ("  ", "imap imaps pop pops http https smtp lmtp"),
        ("+ALL:*", "imap imaps pop pops http https smtp lmtp"),
        ("-*:ALL", ""),
        ("-ALL:*$+imaps:*", "imaps"),
        ("+imap:*$-pop:*", "imap imaps pops http https smtp lmtp"),
        # forms of the list of services
        ("+IMAP pop : all", "imap pop"),
        ("+imap , , pop:*", "imap pop"),
        ("+pop3,pop3s:*", "pop pops"),
        ("+ALL EXCEPT http,https:*", "imap imaps pop pops smtp lmtp"),
        ("-ALL EXCEPT imaps:*", "imaps"),
        ("+ALL EXCEPT ALL EXCEPT imap:*", "imap"),
    ],
)
def test_services(rules: str, allowed: str) -> None:
    parsed = parse_account_rules(rules)
    granted = [one for one in SERVICES if decide(parsed, one, client()).granted]
    assert granted == allowed.split()


def test_who_is_not_the_exception_is_refused() -> None:
    """SUN-24's fourth case, for another host."""
    rules = parse_account_rules("-ALL:ALL EXCEPT server1.example.com")
    verdict = decide(rules, "imap", client(B, "other.example.com"))
    assert verdict.granted is False
    assert verdict.rule is rules[0]


def test_plain_services_from_one_address_only() -> None:
    """SUN-24's fifth case, from elsewhere."""
    rules = parse_account_rules("+imaps,pops:*$+imap,pop:192.0.2.7")
    granted = [one for one in SERVICES if decide(rules, one, client(B)).granted]
    assert granted == ["imaps", "pops"]


# (clients, address, name, user, whether the pattern matches; None: depends)
MATCHES: list[tuple[str, str, Name, str | None, bool | None]] = [
    ("192.0.2.7", A, Lookup.PENDING, None, True),
    ("192.0.2.7", B, Lookup.PENDING, None, False),
    ("192.0.2.0/24", A, Lookup.PENDING, None, True),
    ("192.0.2.0/255.255.255.0", A, Lookup.PENDING, None, True),
    ("192.0.2.0/255.255.255.0", B, Lookup.PENDING, None, False),
    ("192.0.2.", A, Lookup.PENDING, None, True),
    ("192.0.", A, Lookup.PENDING, None, True),
    ("198.", A, Lookup.PENDING, None, False),
    ("0.0.0.0/0", A, Lookup.PENDING, None, True),
    ("0.0.0.0/0", "2001:db8::1", Lookup.PENDING, None, False),
    ("::/0", A, Lookup.PENDING, None, False),
    ("2001:db8::/32", "2001:db8:1::5", Lookup.PENDING, None, True),
    ("[2001:db8::]/32", "2001:db8:1::5", Lookup.PENDING, None, True),
    ("2001:db8::1", "2001:DB8:0::1", Lookup.PENDING, None, True),
    ("192.0.2.7", "::ffff:192.0.2.7", Lookup.PENDING, None, True),
    ("fe80::1", "fe80::1%eth0", Lookup.PENDING, None, True),
    (f"{B} {A}", A, Lookup.PENDING, None, True),
    ("ALL", A, Lookup.PENDING, None, True),
    ("*", A, Lookup.FAILED, None, True),
    # names
    ("server1.example.com", A, "server1.example.com", None, True),
    ("SERVER1.Example.COM", A, "server1.example.com", None, True),
    ("example.com", A, "server1.example.com", None, False),
    (".example.com", A, "server1.example.com", None, True),
    (".example.com", A, "example.com", None, False),
    (".example.com", A, "server1.example.com.evil.example", None, False),
    (".example.com", A, "notexample.com", None, False),
    (".example.com", A, Lookup.PENDING, None, None),
    (".example.com", A, Lookup.FAILED, None, None),
    (".example.com", A, Lookup.NONE, None, False),
    (".example.com", A, Lookup.SPOOFED, None, False),
    # wildcards for names
    ("LOCAL", A, "localhost", None, True),
    ("LOCAL", A, "server1.example.com", None, False),
    ("LOCAL", A, Lookup.NONE, None, False),
    ("local", A, Lookup.PENDING, None, None),
    ("KNOWN", A, "server1.example.com", None, True),
    ("KNOWN", A, Lookup.NONE, None, False),
    ("KNOWN", A, Lookup.SPOOFED, None, False),
    ("KNOWN", A, Lookup.FAILED, None, None),
    ("UNKNOWN", A, Lookup.NONE, None, True),
    ("UNKNOWN", A, "server1.example.com", None, False),
    ("UNKNOWN", A, Lookup.SPOOFED, None, False),
    ("UNKNOWN", A, Lookup.FAILED, None, None),
    ("DNSSPOOFER", A, Lookup.SPOOFED, None, True),
    ("DNSSPOOFER", A, "server1.example.com", None, False),
    ("DNSSPOOFER", A, Lookup.NONE, None, False),
    ("DNSSPOOFER", A, Lookup.FAILED, None, None),
    # a Unix socket
    ("LOCAL", "local", Lookup.PENDING, None, True),
    ("ALL", "local", Lookup.PENDING, None, True),
    ("127.0.0.1", "local", Lookup.PENDING, None, False),
    # EXCEPT (SUN-22)
    ("ALL EXCEPT 192.0.2.7", A, Lookup.PENDING, None, False),
    ("ALL EXCEPT 192.0.2.7", B, Lookup.PENDING, None, True),
    ("192.0.2.0/24 EXCEPT 192.0.2.0/28 EXCEPT 192.0.2.7", A, Lookup.PENDING, None, True),
    ("192.0.2.0/24 EXCEPT 192.0.2.0/28 EXCEPT 192.0.2.8", A, Lookup.PENDING, None, False),
    ("ALL EXCEPT ALL EXCEPT ALL", A, Lookup.PENDING, None, True),
    ("ALL EXCEPT .example.com", A, Lookup.FAILED, None, None),
    ("192.0.2.8 EXCEPT .example.com", A, Lookup.FAILED, None, False),
    (".example.com EXCEPT 192.0.2.7", A, Lookup.PENDING, None, False),
    (".example.com, 192.0.2.7", A, Lookup.PENDING, None, True),
    # users
    ("ann@example.org@192.0.2.0/24", A, Lookup.PENDING, ANN, True),
    ("ann@example.org@192.0.2.0/24", A, Lookup.PENDING, None, None),
    ("ann@example.org@192.0.2.0/24", B, Lookup.PENDING, None, False),
    ("ann@example.org@ALL", A, Lookup.PENDING, "bob@example.org", False),
    ("ann@ALL", A, Lookup.PENDING, ANN, True),
    ("ann@ALL", A, Lookup.PENDING, "ann@other.example", False),
    ("*@example.org@ALL", A, Lookup.PENDING, ANN, True),
    ("*@example.org@ALL", A, Lookup.PENDING, "ann@evil-example.org", False),
    ("*@192.0.2.7", A, Lookup.PENDING, None, True),
    ("ALL@.example.com", A, "server1.example.com", None, True),
    ("ann@.example.com", A, Lookup.FAILED, ANN, None),
    ("ann@.example.com", A, Lookup.FAILED, "bob@example.org", False),
]


@pytest.mark.parametrize(("clients", "address", "name", "user", "expected"), MATCHES)
def test_clients(
    clients: str, address: str, name: Name, user: str | None, expected: bool | None
) -> None:
    """Each pattern as a filter that allows, and as one that denies; the rule that decides
    is named (SUN-21, SUN-25)."""
    who = client(address, name, user)
    for allows in (True, False):
        (rule,) = parse_filters(
            f"imap: {clients}", "o", allows=allows, default_domain="example.org"
        )
        verdict = decide((rule,), "imap", who)
        if expected is None:
            assert verdict.granted is None
            assert verdict.rule is rule
        elif expected:
            assert verdict.granted is allows
            assert verdict.rule is rule
            assert verdict.reason == f"o: imap: {clients}"
        else:
            assert verdict.granted is not allows
            assert verdict.rule is None


@pytest.mark.parametrize(
    ("rules", "name", "granted", "deciding"),
    [
        # First those that allow, wherever they stand; the first that matches decides.
        ("-imap:ALL$+imap:192.0.2.7", Lookup.PENDING, True, "+imap:192.0.2.7"),
        ("+imap:192.0.2.7$+imap:ALL$-imap:ALL", Lookup.PENDING, True, "+imap:192.0.2.7"),
        ("-imap:192.0.2.7$-imap:ALL", Lookup.PENDING, False, "-imap:192.0.2.7"),
        ("+pop:ALL$-imap:198.51.100.9", Lookup.PENDING, True, ""),
        ("+pop:ALL", Lookup.PENDING, False, ""),
        # What is not known leaves the decision open only where it could change it.
        ("+imap:.example.com$+imap:192.0.2.7", Lookup.PENDING, True, "+imap:192.0.2.7"),
        ("+imap:.example.com$-imap:198.51.100.9", Lookup.FAILED, True, ""),
        ("+imap:.example.com$-imap:ALL", Lookup.FAILED, None, "+imap:.example.com"),
        ("-imap:.evil.example$-imap:ALL", Lookup.FAILED, False, "-imap:ALL"),
        ("-imap:.evil.example", Lookup.FAILED, None, "-imap:.evil.example"),
        ("-imap:DNSSPOOFER", Lookup.SPOOFED, False, "-imap:DNSSPOOFER"),
    ],
)
def test_order(rules: str, name: Name, granted: bool | None, deciding: str) -> None:
    """SUN-23."""
    verdict = decide(parse_account_rules(rules), "imap", client(name=name))
    assert verdict.granted is granted
    assert (verdict.rule.text if verdict.rule else "") == deciding


@pytest.mark.parametrize(
    ("rules", "position", "reason"),
    [
        ("imap", 1, "begins with + or -"),
        ("imap:*", 1, "begins with + or -"),
        ("+:*", 2, "a service is missing"),
        ("+imap", 2, "no colon"),
        ("+imap:", 7, "a client is missing"),
        ("+imap:*$", 9, "a rule is missing"),
        ("$", 1, "a rule is missing"),
        ("+imap:*;-pop:*", 7, "neither an address nor a name"),
        ("+imap:*$+impa:*", 10, "did you mean imap?"),
        ("+imap:*$ -imap,x y:*", 16, "'x' is not a service: imap, imaps"),
        ("+imap:192.0.2.300", 7, "not an address"),
        ("+imap:192.0.2.1/33", 7, "not an address"),
        ("+imap:192.0.2.1/24", 7, "bits set behind its mask"),
        ("+imap:192.0.2.0/255.0.255.0", 7, "not an address"),
        ("+imap:2001:db8:::1", 7, "not an address"),
        ("+imap:1.2.3.4.", 7, "not an address"),
        ("+imap:EXCEPT a.example", 7, "a client is missing before EXCEPT"),
        ("+imap:ALL EXCEPT", 17, "a client is missing after EXCEPT"),
        ("+ALL EXCEPT:*", 12, "a service is missing after EXCEPT"),
        ("+imap:a EXCEPT EXCEPT b", 16, "a client is missing before EXCEPT"),
        ("+imap:ann@ALL", 7, "there is no service.defaultdomain"),
        ("+imap:@ALL", 7, "USER@HOST"),
        ("+imap:ann@example.org@", 7, "USER@HOST"),
        ("+imap:*@a..b@ALL", 7, "a..b"),
        ("+imap:m\u00fcller.example", 7, "A-labels"),
        ("+imap:.", 7, "not an address"),
        ("+imap:a_b-.example", 7, "neither an address nor a name"),
        ("+imap:*.example.com", 7, "neither an address nor a name"),
        ("+imap:" + "a EXCEPT " * 21 + "a", 189, "more than 20 EXCEPT"),
    ],
)
def test_what_is_not_understood_never_grants(rules: str, position: int, reason: str) -> None:
    with pytest.raises(MailError) as refusal:
        parse_account_rules(rules)
    assert refusal.value.kind is ErrorKind.INVALID
    assert refusal.value.text.startswith(f"at character {position}: ")
    assert reason in refusal.value.text


def test_filters_of_a_service_have_no_sign() -> None:
    with pytest.raises(MailError, match="at character 9: a filter of a service has no sign"):
        parse_filters("imap:* $+pop:*", "service.imap.domainallowed", allows=True)


def test_reading_takes_linear_time() -> None:
    """S5."""

    another = count()  # what was read once is kept

    def read(size: int) -> None:
        source = f"o{next(another)}"
        parse_filters("imap:" + "a.example," * size, source, allows=True)
        parse_filters("imap:*$" * size + "imap:*", source, allows=True)

    assert_linear(read, 2000)
