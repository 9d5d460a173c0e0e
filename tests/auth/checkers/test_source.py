"""Attributes as other directories write them."""

from __future__ import annotations

import pytest

from mailserver.auth.checkers.source import ATTRIBUTE_NAMES, NOTHING_ALLOWED, read_attributes
from mailserver.model.account import NO_LIMIT, AccountStatus, Attributes


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("mailQuota", ["1000"], {"storage_limit": 1000}),
        ("mailQuota", ["20M"], {"storage_limit": 20 * 2**20}),
        ("mailQuota", ["5g"], {"storage_limit": 5 * 2**30}),
        ("mailQuota", ["-1"], {"storage_limit": NO_LIMIT}),
        ("mailQuota", ["-2"], {}),
        ("mailQuota", ["999999999999T"], {"storage_limit": 2**63 - 1}),
        ("mailMsgQuota", ["500"], {"message_limit": 500}),
        ("mailMsgQuota", ["-1"], {"message_limit": NO_LIMIT}),
        ("mailHost", [" store1.example.org "], {"mail_host": "store1.example.org"}),
        ("cn", ["Joe", "Joseph"], {"display_name": "Joe"}),
        ("cn", [""], {}),
        ("mailAllowedServiceAccess", ["+imap:*"], {"allowed_services": "+imap:*"}),
        (
            "mailAllowedServiceAccess",
            ["+imap:ALL", "-pop:ALL"],
            {"allowed_services": "+imap:ALL$-pop:ALL"},
        ),
        ("mailUserStatus", ["Active"], {"status": AccountStatus.ACTIVE}),
        ("mailUserStatus", ["hold"], {"status": AccountStatus.INACTIVE}),
        ("mailUserStatus", ["active", "deleted"], {"status": AccountStatus.DELETED}),
    ],
)
def test_values_in_the_sun_schemas_form(
    name: str, values: list[str], expected: dict[str, object]
) -> None:
    """SUN-8; the quota's special numbers are the reference's."""
    assert name in ATTRIBUTE_NAMES
    assert read_attributes({name: values}) == (Attributes(**expected), [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "expected", "word"),
    [
        ("mailQuota", "much", {}, "'much'"),
        ("mailQuota", "-3", {}, "'-3'"),
        ("mailQuota", "٣", {}, "not a size"),
        ("mailMsgQuota", "5M", {}, "number of messages"),
        ("mailHost", "a\nb", {}, "one line"),
        ("mailUserStatus", "asleep", {"status": AccountStatus.INACTIVE}, "asleep"),
        ("mailAllowedServiceAccess", "+imap:*\0", {"allowed_services": NOTHING_ALLOWED}, "line"),
        ("mailAllowedServiceAccess", "x" * 1001, {"allowed_services": NOTHING_ALLOWED}, "1000"),
    ],
)
def test_what_is_not_understood_is_told_and_opens_nothing(
    name: str, value: str, expected: dict[str, object], word: str
) -> None:
    attributes, [problem] = read_attributes({name: [value]})
    assert attributes == Attributes(**expected)  # type: ignore[arg-type]
    assert problem.startswith(f"{name}: ") and word in problem
