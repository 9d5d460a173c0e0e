"""When a message came, by the calendar of the zone in which that was said (T32)."""

from __future__ import annotations

from datetime import date

import pytest

from mailserver.model.message import InternalDate


@pytest.mark.parametrize(
    ("seconds", "zone", "day"),
    [
        (0, 0, date(1970, 1, 1)),
        (-1, 0, date(1969, 12, 31)),
        (0, -1, date(1969, 12, 31)),
        (86399, 1, date(1970, 1, 2)),
        (951782400, -480, date(2000, 2, 28)),
        (951782400, 0, date(2000, 2, 29)),
    ],
)
def test_the_day_is_that_of_its_own_zone(seconds: int, zone: int, day: date) -> None:
    assert InternalDate(seconds, zone).day == day.toordinal()
