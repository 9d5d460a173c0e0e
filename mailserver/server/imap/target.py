"""Where COPY, MOVE and APPEND put messages, and how they tell what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from mailserver.errors import ErrorKind, MailError
from mailserver.model.acl import Right
from mailserver.model.changes import Copied
from mailserver.model.mailbox import MailboxInfo
from mailserver.model.numset import NumSet, SequenceSet
from mailserver.model.quota import QuotaRoot
from mailserver.server.imap.session import Session
from mailserver.wire.imap.responses import AppendUid, CopyUid

FOREIGN = "~"
"""First character of the names of other users' mailboxes: nobody can create those."""


@contextmanager
def try_create(name: str) -> Iterator[None]:
    """Around work on a target: that it is missing, or only a level of hierarchy, is answered
    with TRY_CREATE where CREATE would be allowed (T25)."""
    try:
        yield
    except MailError as error:
        if error.kind is ErrorKind.NONEXISTENT and not name.startswith(FOREIGN):
            raise MailError(ErrorKind.TRY_CREATE, error.text, subject=name) from error
        raise


async def find_target(session: Session, name: str) -> tuple[MailboxInfo, Sequence[QuotaRoot]]:
    """Find the mailbox that messages are to go to, and the quota roots they count against.

    Raises:
        MailError: TRY_CREATE, NO_PERMISSION (no `i`), CANNOT (bad name), NONEXISTENT.
    """
    with try_create(name):
        return await session.store.find_target(session.who, name)


async def show_arrivals(session: Session, target: MailboxInfo) -> None:
    """Have the end of the command announce what came into the selected mailbox by the
    command itself, without waiting for the event (RFC 3501 §6.3.11)."""
    if session.view is not None and session.view.image.ref == target.ref:
        await session.refresh()


def copy_uid(target: MailboxInfo, copied: Copied) -> CopyUid | None:
    """Make the COPYUID code; none where nothing was copied, or where the client may not
    read the target and so must not learn of it (RFC 4315 §3)."""
    if not copied.source or Right.READ not in target.rights:
        return None
    return CopyUid(copied.uid_validity, _as_written(copied.source), _as_written(copied.target))


def append_uid(target: MailboxInfo, copied: Copied) -> AppendUid | None:
    """Make the APPENDUID code; none as for `copy_uid`."""
    if Right.READ not in target.rights:
        return None
    return AppendUid(copied.uid_validity, _as_written(copied.target))


def _as_written(uids: Iterable[int]) -> SequenceSet:
    return SequenceSet(NumSet.of(uids).ranges)
