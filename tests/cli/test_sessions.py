"""`who`, `kick`, `access explain`, and what ends sessions, beside a running server."""

from __future__ import annotations

import imaplib
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.site import Site, ask
from tests.service.process import HOST, PASSWORD, write_config

REFUSED = "127.0.0.9"
NAMES = PAT, JOE, EVE = "pat@example.org", "joe@example.org", "eve@example.org"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(
        tmp_path_factory.mktemp("site"),
        *NAMES,
        service__pop__domainnotallowed=f'"pop: {REFUSED} $ pop: joe@example.org@ALL"',
        service__lmtp__domainallowed='"ALL: ALL EXCEPT 127.0.0.9"',
        log__format='"json"',
        log__modules='["imap=trace", "auth=debug"]',
    )
    yield made
    assert made.process.stop() in (0, -signal.SIGTERM)
    assert not list(made.config.parent.glob("data/*.socket"))


def last_words(client: imaplib.IMAP4) -> str:
    """What the server says of itself before it closes."""
    words = client.readline().decode()
    assert client.readline() == b""
    client.shutdown()
    return words


def read_all(client: socket.socket) -> str:
    with client, client.makefile("rb") as file:
        return file.read().decode()


def test_who_and_kick(site: Site) -> None:
    """CGP-10: sessions by number, account and address, with where they stand."""
    pat, joe, second = site.log_in(PAT), site.log_in(JOE), site.log_in(JOE)
    pop = site.connect("pop3", "127.0.0.5")
    assert pop.recv(1000).startswith(b"+OK ")
    told = json.loads(site.ask("who", "--json"))
    rows = {row["address"] + row["account"]: row for row in told}
    row = rows[f"{HOST}pat@example.org"]
    assert row["session"] == f"IMAP-{row['number']:05d}"
    assert (row["service"], row["status"], row["tls"]) == ("imap", "connected to INBOX", False)
    assert 0 <= row["seconds"] < 60 and row["since"].endswith("Z")
    assert rows["127.0.0.5"]["status"] == "authenticating"
    shown = site.ask("who")
    assert row["session"] in shown and "4 sessions, 3 logged in" in shown

    assert "pat@example.org" in site.ask("kick", row["session"])
    assert last_words(pat) == "* BYE disconnected by the administrator\r\n"
    assert len(json.loads(site.ask("kick", "JOE@Example.org", "--json"))) == 2
    assert last_words(joe) == last_words(second) == "* BYE disconnected by the administrator\r\n"
    site.ask("kick", "127.0.0.5")
    assert read_all(pop) == "-ERR [SYS/TEMP] disconnected by the administrator\r\n"
    assert "no such session" in site.ask("kick", "--all", code=1)
    assert "or --all" in site.ask("kick", code=64)
    assert "is no account" in site.ask("kick", "a b", code=64)


def test_a_changed_account_ends_its_sessions_and_no_others(site: Site) -> None:
    pat = site.log_in(PAT)
    eve = site.log_in(EVE)
    change = ("account", "passwd", "eve@example.org", "--password-file", "-")
    site.mailctl(*change, text=f"{PASSWORD}\n")
    assert last_words(eve) == "* BYE the password of this account has been changed\r\n"
    eve = site.log_in(EVE)
    site.mailctl("account", "set", "eve@example.org", "--status", "inactive")
    assert last_words(eve) == "* BYE this account has been disabled\r\n"
    site.mailctl("account", "set", "eve@example.org", "--status", "active")
    eve = site.log_in(EVE)
    site.mailctl("account", "delete", "eve@example.org", "--yes")
    assert last_words(eve) == "* BYE this account has been deleted\r\n"
    assert pat.noop()[0] == "OK"
    pat.logout()


def test_filters_hold_in_every_protocol(site: Site) -> None:
    """SUN-20: at connect by address, at login by user; the log names the rule."""
    refused = read_all(site.connect("pop3", REFUSED))
    assert refused == "-ERR [SYS/PERM] this service may not be used from your address\r\n"
    refused = read_all(site.connect("lmtp", REFUSED))
    assert refused.startswith("554 5.7.1 mail.example.org this service may not be used")
    with site.connect("lmtp") as lmtp:
        assert lmtp.recv(1000).startswith(b"220 ")
    with site.connect("imap", REFUSED) as imap:
        assert imap.recv(1000).startswith(b"* OK ")
    with site.connect("pop3") as pop, pop.makefile("rwb", 0) as file:
        file.write(f"USER joe@example.org\r\nPASS {PASSWORD}\r\n".encode())
        assert [file.readline()[:4] for _ in range(3)] == [b"+OK ", b"+OK ", b"-ERR"]
    line = json.loads(site.process.wait_for("pop: joe@example.org@ALL"))
    assert line["level"] == "warn" and line["module"] == "auth"
    assert line["session"].startswith("POP3-")
    assert "service.pop.domainnotallowed: pop: joe@example.org@ALL" in line["text"]


def test_explain(site: Site) -> None:
    """SUN-25: the decision and the rule that decides, each time."""
    explain = ("access", "explain")
    joe, pat = "joe@example.org", "pat@example.org"
    told = site.mailctl(*explain, "pop3", joe, "192.0.2.7", code=1)
    option = "service.pop.domainnotallowed"
    assert told.startswith(f"denied: filters of pop: {option}: pop: joe@example.org@ALL\n")
    told = site.mailctl(*explain, "pop", pat, REFUSED, "--json", code=1)
    decision = json.loads(told)
    assert decision["granted"] is False and decision["rule"] == f"pop: {REFUSED}"
    rules = "+imaps,pops:*$+imap:192.0.2.7"
    site.mailctl("account", "set", pat, "--allowed-services", rules)
    decision = json.loads(site.mailctl(*explain, "imap", pat, "192.0.2.7", "--json"))
    assert decision["granted"] is True and decision["rule"] == "+imap:192.0.2.7"
    wrong = ("account", "set", pat, "--allowed-services", "+imap:*$+impa:*")
    assert "at character 10: 'impa' is not a service; did you" in site.ask(*wrong, code=65)
    assert "there is no service smtpd" in site.ask(*explain, "smtpd", pat, HOST, code=64)


def test_every_line_of_the_log_is_an_object(site: Site) -> None:
    """CGP-1: with the session's number in every line of a session."""
    client = site.log_in(JOE)
    [row] = [one for one in json.loads(site.ask("who", "--json")) if one["account"]]
    client.logout()
    site.process.wait_for(f'"session": "{row["session"]}", "text": "closed"')
    lines = [json.loads(line) for line in site.process.log]
    assert {"time", "level", "module", "logger", "session", "text", "values"} <= set(lines[0])
    of_session = [line for line in lines if line["session"] == row["session"]]
    texts = [line["text"] for line in of_session]
    assert texts[0] == "connected" and "logged in" in texts
    assert any("login of joe@example.org" in text for text in texts)  # of the authenticator
    commands = [line["values"]["command"] for line in of_session if line["text"] == "runs"]
    assert any(command.startswith("Login(") for command in commands)
    assert PASSWORD not in "".join(site.process.log)


def test_without_a_server(tmp_path: Path) -> None:
    assert "no server runs on" in ask(write_config(tmp_path), "who", code=75)
