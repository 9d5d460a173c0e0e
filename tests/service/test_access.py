"""Who may connect, as it is configured (SUN-20)."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.auth.filters.rules import Client, decide
from mailserver.service.config import ConfigurationError, load
from mailserver.service.installation import installation_settings


def write(folder: Path, text: str) -> Path:
    file = folder / "mailserver.toml"
    file.write_text(text)
    return file


def test_filters_are_read_with_the_option_that_they_come_from(tmp_path: Path) -> None:
    """SUN-25: what decides is named as an administrator can find it."""
    settings = load(
        write(
            tmp_path,
            'service.defaultdomain = "example.org"\n'
            'service.imap.domainallowed = ["imaps: ALL", "imap: ann@192.0.2.0/24"]\n'
            'service.imap.domainnotallowed = "ALL: 192.0.2.9 $ imap: ALL"\n',
        )
    )
    filters = installation_settings(settings).filters
    assert filters["pop"] == ()

    def reason(service: str, address: str, user: str) -> tuple[bool | None, str]:
        client = Client(Client.at(address).address, user=user)
        verdict = decide(filters["imap"], service, client)
        return verdict.granted, verdict.reason

    allowed, denied = "service.imap.domainallowed", "service.imap.domainnotallowed"
    ann, bob = "ann@example.org", "bob@example.org"
    assert reason("imaps", "192.0.2.9", bob) == (True, f"{allowed}: imaps: ALL")
    assert reason("imap", "192.0.2.9", ann) == (True, f"{allowed}: imap: ann@192.0.2.0/24")
    assert reason("imap", "192.0.2.9", bob) == (False, f"{denied}: ALL: 192.0.2.9")
    assert reason("imap", "192.0.2.8", bob) == (False, f"{denied}: imap: ALL")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (
            '\nservice.pop.domainallowed = "pop: 192.0.2.1/24"',
            2,
            "service.pop.domainallowed: 'pop: 192.0.2.1/24' is not possible:"
            " at character 6: '192.0.2.1/24' has bits set behind its mask",
        ),
        (
            'service.imap.domainnotallowed = ["imap: ALL", "impas: ALL"]',
            1,
            "at character 11: 'impas' is not a service; did you mean imaps?",
        ),
        (
            'service.imap.domainallowed = "imap: ann@ALL"',
            1,
            "service.imap.domainallowed: at character 7: user 'ann' has no domain, and there is"
            " no service.defaultdomain",
        ),
        ("service.imap.domainallowed = 7", 1, "takes filters, each a text"),
    ],
)
def test_what_is_wrong_is_told_with_option_position_and_reason(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(write(tmp_path, text))
    [found] = error.value.problems
    assert found.line == line
    assert problem in str(found)
