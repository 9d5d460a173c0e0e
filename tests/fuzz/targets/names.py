"""Names, addresses, rules and options: what administrators and clients write by hand."""

from __future__ import annotations

import ipaddress
import re
import tempfile
import tomllib
from functools import cache
from pathlib import Path

from mailserver.auth.filters.grammar import parse_account_rules, parse_filters
from mailserver.auth.filters.rules import Client, Lookup, decide
from mailserver.auth.saslprep import saslprep
from mailserver.errors import ErrorKind, MailError
from mailserver.model.addresses import (
    account_name,
    canonical_address,
    canonical_domain,
    display_domain,
    parse_address,
)
from mailserver.model.names import DELIMITER, ListPattern, canonical, parents
from mailserver.model.networks import Networks, counted_as, parse_network
from mailserver.service.config import ConfigurationError, listing, load
from mailserver.service.options import TABLE
from mailserver.service.toml_lines import key_lines
from tests.fuzz.target import Target, choices, is_clean


def text_of(octets: bytes) -> str:
    """Text with all that may stand in one, lone surrogates among it."""
    return octets.decode("utf-8", "surrogateescape")


# -- mailboxes ---------------------------------------------------------------------------


def check_mailbox_name(octets: bytes) -> None:
    try:
        name = canonical(text_of(octets))
    except MailError as error:
        assert error.kind is ErrorKind.CANNOT
        return
    assert is_clean(name)
    assert canonical(name) == name
    assert all(name.startswith(one + DELIMITER) for one in parents(name))
    assert ListPattern.joined("", "*").matches(name)
    assert ListPattern.joined("", name).matches(name) or set("*%") & set(name)


def check_pattern(octets: bytes) -> None:
    """Reference, pattern and name, one a line."""
    reference, pattern, *names = [*text_of(octets).split("\n"), "", ""]
    joined = ListPattern.joined(reference, pattern)
    for name in names[:3]:
        try:
            name = canonical(name)
        except MailError:
            continue
        if len(joined.pattern) > 300:
            joined.matches(name)
            continue
        assert joined.matches(name) == (
            by_definition(joined.pattern, name)
            or (name == "INBOX" and by_definition(joined.pattern.upper(), name))
        )


def by_definition(pattern: str, name: str) -> bool:
    """RFC 9051 §6.3.9, word for word."""

    @cache
    def match(at: int, of: int) -> bool:
        if at == len(pattern):
            return of == len(name)
        if pattern[at] in "*%":
            stops = pattern[at] == "%" and name[of : of + 1] == DELIMITER
            return match(at + 1, of) or (of < len(name) and not stops and match(at, of + 1))
        return name[of : of + 1] == pattern[at] and match(at + 1, of + 1)

    for at in range(len(pattern), -1, -1):  # so that recursion stays flat
        for of in range(len(name), -1, -1):
            match(at, of)
    return match(0, 0)


# -- addresses ---------------------------------------------------------------------------


def check_address(octets: bytes) -> None:
    text = text_of(octets)
    try:
        address = parse_address(text)
        assert is_clean(address.local) and address.domain.isascii()
        assert canonical_address(text) == address.name
        assert canonical_address(text.upper()) or True
    except MailError as error:
        assert error.kind is ErrorKind.INVALID
    try:
        name = account_name(text, "example.org")
        assert account_name(name) == name
        assert canonical(name.replace("@", "_"))
    except MailError as error:
        assert error.kind is ErrorKind.INVALID
    try:
        domain = canonical_domain(text)
        assert canonical_domain(domain) == domain
        display_domain(domain)
    except MailError as error:
        assert error.kind is ErrorKind.INVALID


def check_network(octets: bytes) -> None:
    text = text_of(octets)
    assert isinstance(counted_as(text), str)
    try:
        network = parse_network(text)
    except ValueError:
        return
    assert parse_network(str(network)) == network
    first = str(network.network_address)
    if not isinstance(network.network_address, ipaddress.IPv6Address):
        assert first in Networks.of([text])
    assert "no address" not in Networks.of([text])


def check_rules(octets: bytes) -> None:
    """Rules, service, address and name, one a line."""
    rules, service, address, name, *_ = [*text_of(octets).split("\n"), "", "", ""]
    client = Client(Client.at(address).address, name or Lookup.FAILED, "ann@example.org")
    try:
        parsed = parse_account_rules(rules, "example.org")
    except MailError as error:
        assert error.kind is ErrorKind.INVALID
        assert re.match(r"at character \d+: .", error.text), error.text
        return
    verdict = decide(parsed, service, client)
    assert verdict.rule is None or verdict.rule in parsed
    again = "$".join(rule.text for rule in parsed)
    assert parse_account_rules(again, "example.org") == parsed
    filters = [parse_filters(one.text[1:], "o", allows=one.allows, default_domain="example.org")
               for one in parsed]  # fmt: skip
    assert decide([one for (one,) in filters], service, client).granted is verdict.granted


def check_saslprep(octets: bytes) -> None:
    try:
        prepared = saslprep(octets.decode("utf-8", "replace"))
    except ValueError:
        return
    assert is_clean(prepared)
    assert saslprep(prepared) == prepared


# -- options -----------------------------------------------------------------------------


def check_option(octets: bytes) -> None:
    """A text for every option, and what is shown of it for a configuration file."""
    text = text_of(octets)
    base = Path("/base")
    for option in (choices(octets).choice(TABLE.options), TABLE.options[len(octets) % 50]):
        try:
            value = option.kind.parse(text, base)
        except ValueError as error:
            assert str(error)
            continue
        shown = option.kind.show(value)
        assert option.kind.parse(shown, base) == value, (option.name, shown)
        if is_clean(shown):
            written = tomllib.loads(f"x = {option.kind.toml(value)}")["x"]
            assert option.kind.parse(written, base) == value, (option.name, written)


@cache
def scratch() -> Path:
    return Path(_directory().name)


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz")


def check_configuration(octets: bytes) -> None:
    file = scratch() / "mailserver.toml"
    file.write_bytes(octets)
    key_lines(text_of(octets))
    try:
        settings = load(file)
    except ConfigurationError as error:
        assert error.problems
        lines = octets.count(b"\n") + octets.count(b"\r") + 2
        for problem in error.problems:
            assert problem.reason and str(problem)
            assert problem.line is None or 1 <= problem.line <= lines
        return
    for shown in listing(settings):
        assert shown.value.isprintable() or shown.value == ""


def configurations() -> list[bytes]:
    rows = [f"{option.name} = {_toml(option)}" for option in TABLE.options]
    some = [row.encode() for row in rows]
    return [
        *some,
        b"\n".join(some[:10]),
        b"[service.imap]\nport = 1143\nbanner = 'x'\n[service]\nimap.sslport = \"993\"\n",
        b'x = """\n[a]\nb = 1\n"""\n"service.imap.port" = 1\n[[a]]\n',
        b"a = {b = 1, c = [1, 2]}\n# c\n\xef\xbb\xbf",
    ]


def _toml(option: object) -> str:
    return option.kind.toml(option.default)  # type: ignore[attr-defined, no-any-return]


def values() -> list[bytes]:
    shown = {option.kind.show(option.default) for option in TABLE.options}
    return [
        *(one.encode() for one in sorted(shown)), b"yes", b"64MiB", b"1.5 KB", b"30min", b"2h",
        b"500ms", b"1,2", b"192.0.2.0/24 2001:db8::1", b"ann@example.org", b"~/x", b"example.org",
    ]  # fmt: skip


TARGETS = (
    Target(
        "mailbox_names",
        check_mailbox_name,
        lambda: [b"INBOX", b"inbox/a", b"a/b/c/", "Entwürfe/é".encode(), b"~ann@x/Sent", b"a*%"],
        (b"/", b"//", b"INBOX", b"inbox/", "ı".encode(), "\u2028".encode(), b"/a" * 20),
    ),
    Target(
        "list_patterns",
        check_pattern,
        lambda: [
            b"\n*\nINBOX", b"a/\n%/b*\na/x/bc\na/x/y", b"\ninBOX\nINBOX",
            b"in\nbox/%\nINBOX/a",
        ],
        (b"*", b"%", b"/", b"\n", b"*%", b"INBOX", b"inbox", b"a/b"),
    ),
    Target(
        "addresses",
        check_address,
        lambda: [
            b"ann@example.org", b"ANN@EXAMPLE.ORG.", b'"a b"@example.org', b'"a\\"@b"@c.d', b"ann",
            "jörg@müller.example".encode(), b"a@xn--mller-kva.example", b"a@[192.0.2.1]",
            "a@例え.テスト".encode(), b"a+b@c", b"x.@y", b"@", b"a@b@c",
        ],
        (b"@", b'"', b"\\", b".", b"xn--", b"-", b"xn--a", "ß".encode(), "İ".encode(), b"[", b"]"),
    ),
    Target(
        "networks",
        check_network,
        lambda: [b"192.0.2.0/24", b"2001:db8::/32", b"::ffff:192.0.2.1", b"fe80::1%eth0"],
        (b":", b"::", b"/", b".", b"%", b"255", b"/129", b"/255.255.0.0"),
    ),
    Target(
        "access_rules",
        check_rules,
        lambda: [
            b"+imap,pop:*$-http:ALL\nimap\n192.0.2.1\na.example", b"-imap:* EXCEPT .a.example",
            b"+imap:ALL\nimaps\n::1", b" +smtp : KNOWN ", b"-imap EXCEPT imap:192.0.2.0/24, 10.",
            b"+pop:ann@192.0.2.0/255.255.255.0 EXCEPT LOCAL EXCEPT *@b.c@[2001:db8::]/32",
        ],
        (b"+", b"-", b":", b"$", b",", b"*", b"ALL", b"imap", b"\n", b" EXCEPT ", b"@", b"/8"),
    ),
    Target(
        "saslprep",
        check_saslprep,
        lambda: [b"secret", "I\u00adX ª Ⅸ".encode(), "\u0627\u0031".encode(), "ﬁ😀".encode()],
        ("\u00ad".encode(), "\u200e".encode(), "\u0627".encode(), "\ufb01".encode(), b" "),
    ),
    Target("option_values", check_option, values, (b"MiB", b"min", b".", b",", b"/", b"e5", b"~")),
    Target(
        "configuration",
        check_configuration,
        configurations,
        (b"=", b"[", b"]", b"[[", b'"""', b"'''", b"#", b"service.", b" = 1\n", b"{", b"}", b"."),
    ),
)  # fmt: skip
