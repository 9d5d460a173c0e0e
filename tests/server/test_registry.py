"""The table of commands fits together, or the server does not start."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from mailserver.errors import ErrorKind
from mailserver.server.imap.commands import MODULES
from mailserver.server.imap.registry import (
    ANNOUNCED,
    ANY,
    SELECTED,
    CommandSpec,
    Registry,
    RegistryError,
)
from mailserver.server.imap.status import CODES
from mailserver.wire.imap.grammar import PARSERS
from tests.server.rig import DEFAULTS, rig

REGISTRY = Registry.collect(MODULES)


def module(*specs: CommandSpec, provides: tuple[bytes, ...] = ()) -> ModuleType:
    made: Any = ModuleType("x")
    made.SPECS = specs
    made.PROVIDES = provides
    return made  # type: ignore[no-any-return]


NOOP = REGISTRY.specs[b"NOOP"]


def test_every_command_that_can_be_read_can_be_run() -> None:
    assert REGISTRY.specs.keys() == PARSERS.keys()
    for name, spec in REGISTRY.specs.items():
        assert spec.name == name
        assert spec.parser is PARSERS[name]


def test_expunge_may_not_be_told_by_fetch_store_and_search() -> None:
    """T3."""
    forbidden = {name for name, spec in REGISTRY.specs.items() if not spec.breaks_seqs}
    assert forbidden == {b"FETCH", b"STORE", b"SEARCH"}
    assert all(REGISTRY.specs[name].uses_seqs for name in forbidden)


def test_uid_variants_need_a_mailbox() -> None:
    variants = [spec for spec in REGISTRY.specs.values() if spec.by_uid]
    assert len(variants) == 6
    assert all(spec.states == SELECTED for spec in variants)


@pytest.mark.parametrize(
    ("modules", "announced", "complaint"),
    [
        ((module(NOOP),), (b"MOVE",), "MOVE would be announced, but nothing implements it"),
        ((module(NOOP, provides=(b"MOVE",)),), (), "MOVE is implemented, but never announced"),
        ((module(NOOP), module(NOOP)), (), "two commands are named NOOP"),
        (
            (module(CommandSpec(b"X", NOOP.parser, NOOP.handler, ANY, needs=b"X")),),
            (),
            "X is implemented, but never announced",
        ),
    ],
)
def test_a_table_that_does_not_fit_stops_the_start(
    modules: tuple[ModuleType, ...], announced: tuple[bytes, ...], complaint: str
) -> None:
    with pytest.raises(RegistryError, match=complaint):
        Registry.collect(modules, announced)


def test_literal_minus_is_not_announced_beside_literal_plus() -> None:
    """T56."""
    assert b"LITERAL+" in ANNOUNCED
    assert b"LITERAL-" not in ANNOUNCED


def test_every_kind_of_error_has_its_word() -> None:
    assert CODES.keys() == set(ErrorKind)


def test_idle_is_announced_only_while_events_cover_all_mailboxes(tmp_path: Path) -> None:
    """SUN-51."""
    with rig(tmp_path, covers_all_mailboxes=False) as server:
        client = server.client()
        capabilities = client.command("CAPABILITY")[0].split()
        assert "IDLE" not in capabilities
        assert "MOVE" in capabilities
        assert client.command("IDLE") == [". BAD IDLE is not available here"]
    (tmp_path / "second").mkdir()
    with rig(tmp_path / "second", covers_all_mailboxes=True) as server:
        assert "IDLE" in server.client().command("CAPABILITY")[0].split()


def test_an_account_may_not_see_what_is_switched_off_for_it(tmp_path: Path) -> None:
    """T38."""
    with rig(tmp_path, accounts=()) as server:
        server.add_account("bob@example.org", disabled_capabilities=frozenset({"MOVE", "IDLE"}))
        client = server.client("bob@example.org", "INBOX")
        tokens = client.command("CAPABILITY")[0].split()
        assert not {"MOVE", "IDLE"} & set(tokens)
        assert {"UIDPLUS", "UNSELECT"} <= set(tokens)
        assert client.command("UID MOVE 1 Trash") == [". BAD UID MOVE is not available here"]


def test_nobody_sees_what_is_switched_off_for_all(tmp_path: Path) -> None:
    """T38; `service.imap.disabledcapabilities`, before and after login."""
    settings = attrs.evolve(DEFAULTS, disabled_capabilities=frozenset({b"MOVE", b"ID"}))
    with rig(tmp_path, accounts=(), settings=settings) as server:
        server.add_account("bob@example.org", disabled_capabilities=frozenset({"IDLE"}))
        stranger = server.connect().greeted()
        assert "ID" not in stranger.command("CAPABILITY")[0].split()
        assert stranger.command("ID NIL") == [". BAD ID is not available here"]
        tokens = server.client("bob@example.org", "INBOX").command("CAPABILITY")[0].split()
        assert not {"MOVE", "ID", "IDLE"} & set(tokens)
        assert "UIDPLUS" in tokens
