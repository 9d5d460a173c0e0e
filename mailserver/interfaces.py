"""The seams of the server on one page.

`server` reaches mail only through `IMailStore`, accounts through `IDirectory`,
passwords through `IAuthenticator`; so protocol workers, store and database may stand
on one machine or on several by changing `service/wiring.py` alone.

Rules that hold for every method here:

- All run on the reactor thread. A method that returns an awaitable completes without
  suspending when it need not wait, so awaiting it costs a function call.
- What the documentation calls durable is on disk (fsync) before the awaitable returns.
- Refusals are `MailError`; its kinds are named under Raises. Besides these, any method
  may raise UNAVAILABLE (backend down), DISK_FULL, or CORRUPT.
- Every access to a mailbox passes the store's one `authorize()` gate with the
  `Principal` given (S9). A mailbox that the principal may not even see is answered
  exactly as one that does not exist (T39).
- Mailbox names are text in the form of `mailserver.model.names.canonical`; implementations
  call it themselves.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from zope.interface import Attribute, Interface

from mailserver.errors import MailError
from mailserver.model.account import Account, AppPassword, Recipient, Verifiers
from mailserver.model.acl import Right
from mailserver.model.changes import Changes, Copied, Event, FlagsStored
from mailserver.model.flags import FlagOp, Flags
from mailserver.model.ids import AccountId, MailboxRef, ModSeq, Principal, Uid
from mailserver.model.mailbox import MailboxInfo, MailboxStatus
from mailserver.model.message import Column, Description, FileSpan, InternalDate
from mailserver.model.names import SpecialUse
from mailserver.model.numset import NumSet
from mailserver.model.quota import QuotaRoot
from mailserver.model.search import SearchKey
from mailserver.model.secrets import Evidence, SecretKind, Secrets


class ISpool(Interface):
    """Octets of one message while they come in; kept in memory while small, then in a
    file (0600, O_EXCL) of the store's own file system.

    Bare CR and bare LF become CRLF as they are written, also across calls (T31).
    """

    def write(octets: bytes) -> None:
        """Add octets.

        Raises:
            MailError: TOO_BIG when the store's maximum message size is passed; the spool
                is then discarded and further writes are ignored. DISK_FULL likewise.
        """

    async def finish() -> ISpooled:
        """Complete the message: describe it and make it ready for any number of mailboxes.

        Nothing is durable yet. Describing a large message happens off the reactor.

        Raises:
            MailError: BAD_MESSAGE for a message of no octets (T25); what `write` raised.
        """

    def discard() -> None:
        """Forget everything; may be called at any time, also twice."""


class ISpooled(Interface):
    """A complete message that is in no mailbox yet. Must be discarded at the end; what
    was put into mailboxes stays there (their files are hard links)."""

    size: int = Attribute("octets of the message, as stored")
    description: Description = Attribute("what the octets say")

    def discard() -> None:
        """Remove the spool file, if any; may be called twice."""


class IContent(Interface):
    """The octets of one stored message, read in pieces. They never change (T31)."""

    size: int = Attribute("octets, equal to Column.SIZE")

    def read(start: int, end: int) -> bytes:
        """Return octets start..end (end not included), cut to the size.

        Raises:
            MailError: CORRUPT if the file is gone or shorter than it was.
        """

    def in_file(start: int, end: int) -> FileSpan | None:
        """Return where octets start..end lie in a file, until `close`; None if they do not,
        or if a NUL may be among them: then they cannot be sent as they are (T31)."""

    def close() -> None:
        """Give the file back; may be called twice. Content kept in memory needs none."""


class IMailboxImage(Interface):
    """One mailbox as this process knows it, shared by all its sessions.

    The arrays are parallel, ascending by UID. Arrivals are appended to them in place;
    an expunge replaces all of them by new ones. So a view may keep `uids` together with
    a count: what it saw stays true until it looks again (T3, T5). Flags and mod-sequences
    are updated in place.

    No SQL is behind any method here: they cost O(what is returned).
    """

    ref: MailboxRef = Attribute("which mailbox")
    uid_validity: int = Attribute("as in SELECT")
    uid_next: Uid = Attribute("as in SELECT")
    mod_sequence: ModSeq = Attribute("highest one that this image holds")
    uids: array[int] = Attribute("array('I') of UIDs")
    flag_ids: array[int] = Attribute("array('I') of indices into flag_table")
    mod_sequences: array[int] = Attribute("array('Q')")
    flag_table: list[Flags] = Attribute(
        "every combination of flags met so far; grows, entries never change"
    )
    keywords: tuple[str, ...] = Attribute(
        "keywords that are or were in use, in the order of their first use"
    )
    deleted: bool = Attribute("True once the mailbox itself is gone")

    def changes_since(mod_sequence: ModSeq) -> Changes:
        """Tell what happened after `mod_sequence`; arrivals show as a longer `uids`."""

    def first_unseen() -> int | None:
        r"""The 0-based position of the first message without `\Seen`; None if there is none.
        Costs what changed since it was asked last."""

    def claim_recent(up_to: Uid) -> NumSet:
        r"""Take all UIDs <= `up_to` that no session was told of as `\Recent` (T9).

        Each UID is handed out once. Kept in memory, saved without haste: after a crash a
        message may be recent again, which RFC 3501 §2.3.2 allows.
        """

    def unclaimed_recent() -> NumSet:
        """The UIDs that `claim_recent` would hand out, without taking them (EXAMINE)."""


class IMailStore(Interface):
    """All mail: mailboxes, messages, flags, quotas of all accounts.

    One call is one transaction unless said otherwise; it is done whole or not at all.
    """

    max_message_size: int = Attribute("octets; APPENDLIMIT and SIZE announce it")

    # -- mailboxes ----------------------------------------------------------

    async def mailboxes(who: Principal) -> Sequence[MailboxInfo]:
        """List all mailboxes in the principal's own account that it may look up, and
        foreign ones it subscribed to, ascending by name with INBOX first.

        Missing levels of hierarchy are not among them; LIST makes them up.
        """

    async def subscriptions(who: Principal) -> Sequence[str]:
        """List the subscribed names ascending, also those that no longer exist (T23)."""

    async def find(who: Principal, name: str, right: Right | None = None) -> MailboxInfo:
        """Find a mailbox by name.

        Args:
            right: that the principal must hold; None for any right that makes it visible.

        Raises:
            MailError: NONEXISTENT, NO_PERMISSION, CANNOT (bad name).
        """

    async def create(who: Principal, name: str, use: SpecialUse | None = None) -> MailboxInfo:
        """Make a mailbox and the missing superiors; durable. It is not subscribed.

        Its UIDVALIDITY is above any the name ever had (T12, T58).

        Raises:
            MailError: ALREADY_EXISTS, CANNOT, NO_PERMISSION, USE_ATTRIBUTE (another
                mailbox has that use, T50), LIMIT (number of mailboxes).
        """

    async def delete(who: Principal, name: str) -> None:
        """Remove a mailbox and its messages; durable. Subscriptions stay (T23).

        With inferiors it becomes a level without messages (RFC 9051 §6.3.5).

        Raises:
            MailError: NONEXISTENT, CANNOT (INBOX), HAS_CHILDREN (it already is only a
                level), NO_PERMISSION.
        """

    async def rename(who: Principal, old: str, new: str) -> None:
        """Rename a mailbox and its inferiors; durable. Ids stay, subscriptions do not
        follow. INBOX is emptied into a new mailbox instead (RFC 9051 §6.3.6).

        Raises:
            MailError: NONEXISTENT, ALREADY_EXISTS, CANNOT, NO_PERMISSION.
        """

    async def subscribe(who: Principal, name: str, subscribed: bool) -> None:
        """Set or take a subscription; durable, also for a name that does not exist.

        Raises:
            MailError: CANNOT (bad name), LIMIT.
        """

    async def status(who: Principal, ref: MailboxRef) -> MailboxStatus:
        """Return the kept counters of a mailbox.

        Raises:
            MailError: NONEXISTENT, NO_PERMISSION.
        """

    async def find_target(who: Principal, name: str) -> tuple[MailboxInfo, Sequence[QuotaRoot]]:
        """`find` with the right to insert, and `quota_roots`, by one look at the database.

        Raises:
            MailError: NONEXISTENT, NO_PERMISSION (no `i`), CANNOT (bad name).
        """

    async def quota_roots(who: Principal, ref: MailboxRef) -> Sequence[QuotaRoot]:
        """Return the quota roots that the mailbox counts against."""

    async def append_limit(who: Principal, ref: MailboxRef) -> int:
        """Return the octets that one message may have there (RFC 7889)."""

    # -- an open mailbox ----------------------------------------------------

    async def open(who: Principal, ref: MailboxRef) -> IMailboxImage:
        """Give the shared image of the mailbox, brought up to date; to be given back by
        `close`.

        Raises:
            MailError: NONEXISTENT, NO_PERMISSION (no `r`).
        """

    async def select(who: Principal, name: str) -> tuple[MailboxInfo, IMailboxImage]:
        """`find` and `open` by one look at the database.

        Raises:
            MailError: NONEXISTENT, NO_PERMISSION (no `r`), CANNOT (bad name).
        """

    def close(image: IMailboxImage) -> None:
        """Give back what `open` or `select` gave; it is not to be used after that. The store
        may keep it for who opens the mailbox next."""

    async def refresh(image: IMailboxImage) -> None:
        """Bring the image up to date with the database; cheap when nothing changed."""

    async def fetch(
        who: Principal, image: IMailboxImage, uids: Sequence[Uid], columns: Sequence[Column]
    ) -> list[tuple[Any, ...]]:
        """Read columns of messages: rows `(uid, value, …)` ascending by UID.

        Messages that are gone are left out. At most 2,000 UIDs a call: it runs on the
        reactor and must not hold it longer than 20 ms.
        """

    async def content(who: Principal, image: IMailboxImage, uid: Uid) -> IContent | None:
        """Open the octets of one message; None if it is gone."""

    async def contents(
        who: Principal, image: IMailboxImage, uids: Sequence[Uid], limit: int
    ) -> list[tuple[Uid, IContent]]:
        """Open the first messages of `uids`, as many as have up to `limit` octets
        together and are few enough in files, but at least one if any is left.

        The caller asks again from after the last one it got. At most 2,000 UIDs.
        """

    async def unique_ids(
        who: Principal, image: IMailboxImage, uids: Sequence[Uid]
    ) -> dict[int, str]:
        """Give what POP3 called messages on the servers from which they were imported.

        Args:
            uids: at most 2,000.

        Returns:
            UID → unique id, each only once; of few or none of the messages.
        """

    async def search(who: Principal, image: IMailboxImage, key: SearchKey) -> array[int]:
        """Find the messages of the image for which the programme holds.

        Works in slices between which other work of the reactor goes on.

        Returns:
            array('I') of UIDs, ascending.
        """

    async def store_flags(
        who: Principal,
        image: IMailboxImage,
        uids: NumSet,
        op: FlagOp,
        flags: Flags,
        unchanged_since: ModSeq | None = None,
    ) -> FlagsStored:
        r"""Change flags of those of `uids` that are there; durable, unless the store was told
        that a power cut may take flags back; the image is up to date afterwards. Atomic per
        message across sessions (T7).

        The rights `s` (\Seen), `t` (\Deleted), `w` (all else) are needed for what is to
        change; what is not permitted is left as it is (RFC 4314 §4).

        Raises:
            MailError: NO_PERMISSION if nothing of it is permitted, LIMIT (keywords).
        """

    async def expunge(who: Principal, image: IMailboxImage, uids: NumSet | None) -> ModSeq:
        r"""Remove messages with `\Deleted`: all, or those in `uids`; durable; the image
        is up to date afterwards.

        Raises:
            MailError: NO_PERMISSION (no `e`).
        """

    async def copy(
        who: Principal, image: IMailboxImage, uids: NumSet, target: MailboxRef
    ) -> Copied:
        """Copy messages with flags, keywords and dates, all or none; durable (T26).

        Raises:
            MailError: NONEXISTENT (target), NO_PERMISSION, OVER_QUOTA.
        """

    async def move(
        who: Principal, image: IMailboxImage, uids: NumSet, target: MailboxRef
    ) -> Copied:
        """Move messages, all or none; durable; no quota check within an account (CGP-15).

        Between accounts the target is durable first: a crash may leave a duplicate.

        Raises:
            MailError: as `copy`.
        """

    # -- mail coming in -----------------------------------------------------

    def spool() -> ISpool:
        """Start a message."""

    async def append(
        who: Principal,
        target: MailboxRef,
        messages: Sequence[tuple[ISpooled, Flags, InternalDate]],
        import_keys: Sequence[str] = (),
        unique_ids: Sequence[str | None] = (),
    ) -> Copied:
        """Add messages, all or none (T25); durable. The spooled ones stay the caller's.

        Args:
            import_keys: one for each message; a message whose key this account already
                took in is left out (then it is not among `target`), so that an
                interrupted import can be repeated.
            unique_ids: one for each message, what POP3 called it on another server: 1 to 70
                characters 0x21 to 0x7E, or None. One that the mailbox has given to
                another message is not kept.

        Raises:
            MailError: NONEXISTENT, NO_PERMISSION, OVER_QUOTA, TOO_BIG, LIMIT (keywords).
        """

    async def append_to(
        who: Principal, name: str, messages: Sequence[tuple[ISpooled, Flags, InternalDate]]
    ) -> tuple[MailboxInfo, Copied]:
        """`find` and `append` by one look at the database.

        Returns:
            The mailbox of that name, and what `append` gives.

        Raises:
            MailError: as `append`, and CANNOT (bad name).
        """

    async def deliver(recipient: Recipient, message: ISpooled, prefix: bytes) -> MailboxInfo:
        """Put a message into a recipient's INBOX, or the mailbox that the subaddress
        names if there is one; durable.

        Args:
            prefix: header lines for this recipient alone, each with CRLF; stands before
                the message's octets for every reader.

        Returns:
            The mailbox it went to.

        Raises:
            MailError: OVER_QUOTA, NONEXISTENT (account gone), DISABLED.
        """

    async def check_deliverable(recipient: Recipient, size: int) -> None:
        """Say before DATA whether a message of `size` octets (0 if not known) would be
        taken; a hint, `deliver` decides.

        Raises:
            MailError: as `deliver`, and TOO_BIG.
        """

    # -- accounts -----------------------------------------------------------

    async def create_account(account: Account) -> None:
        """Make the data of a new account with its first mailboxes; durable."""

    async def delete_account(account: AccountId) -> None:
        """Remove all data of an account; durable."""

    async def set_quota(
        account: AccountId, storage_limit: int | None, message_limit: int | None
    ) -> None:
        """Set the limits of an account's root; durable."""

    async def stop() -> None:
        """Finish what is being written, refuse new writes, close every handle."""


class IDirectory(Interface):
    """Accounts, domains, aliases, routes."""

    async def account(name: str) -> Account | None:
        """Find an account by its canonical name or one of its alias addresses."""

    async def account_by_id(account: AccountId) -> Account | None:
        """Find an account by id."""

    async def login_name(name: str) -> str:
        """Make the canonical name of what a person typed: default domain (SUN-13), login
        separators (SUN-12), case, NFC. Does not say whether such an account exists."""

    async def recipient(address: str) -> Recipient:
        """Resolve an envelope address, subaddress included (RFC 5233). Login separators
        are not looked at (SUN-12).

        Raises:
            MailError: NONEXISTENT (no such account here), DISABLED.
        """

    async def accounts() -> Sequence[Account]:
        """List all accounts, ascending by name."""

    def is_local_domain(domain: str) -> bool:
        """Say whether mail for the domain is ours."""


class IVerifiers(Interface):
    """Password verifiers, apart from the accounts so that few parts ever see them."""

    async def verifiers(account: AccountId) -> Verifiers:
        """Return an account's verifiers; all members empty if it has no password."""

    async def set_verifiers(account: AccountId, verifiers: Verifiers) -> None:
        """Replace an account's verifiers, as a password change does; durable.

        Raises:
            MailError: NONEXISTENT.
        """

    async def renew_verifiers(account: AccountId, old: Verifiers, new: Verifiers) -> None:
        """Replace verifiers by others of the same password; durable. Nothing happens if they
        are not `old` any more: the password was changed meanwhile."""


class IAttempt(Interface):
    """A login in which the password stays with the client: it proves to have it."""

    secrets: Secrets = Attribute(
        "what the proof is checked against; for a name that is not there, such as belong to"
        " no password (S7)"
    )

    async def proved(label: str, authzid: str) -> Principal:
        """Let the client in.

        Args:
            label: of the secret that was proved.
            authzid: as in `IAuthenticator.check_password`.

        Raises:
            MailError: AUTHORIZATION_FAILED, DISABLED, UNAVAILABLE, as there.
        """

    def failed(reason: str) -> MailError:
        """Count a failure.

        Args:
            reason: for the log.

        Returns:
            The refusal, to be raised: that of `check_password`.
        """


class IAppPasswords(Interface):
    """Passwords for single devices (made by the server, so nobody can guess them)."""

    async def app_passwords(account: AccountId) -> Sequence[AppPassword]:
        """List an account's app passwords, the oldest first."""

    def app_password_used(used: AppPassword) -> None:
        """Hear that somebody logged in by it; it is written without haste."""


class IAuthenticator(Interface):
    """Checks who somebody is, with one answer and one cost for every failure (S7).

    Arguments that all checks have in common: `service` is `imap`, `imaps`, `pop`, `pops`,
    …, for filters and the log; `address` the client's IP address, for throttling; `authzid`
    whom to act as, empty for oneself, others only for store administrators (S6, SUN-14).

    All may raise `MailError` AUTHENTICATION_FAILED (same text whatever was wrong),
    AUTHORIZATION_FAILED (authzid not allowed), DISABLED (said only to who has proved who
    he is), UNAVAILABLE (a source is down, or too many tries).
    """

    def accepts() -> Collection[Evidence | SecretKind]:
        """Say what can be checked now, of every account: a mechanism that needs something
        else must not be offered."""

    async def check_password(
        name: str,
        password: str,
        *,
        authzid: str,
        service: str,
        address: str,
        began: Callable[[], None] = ...,
    ) -> Principal:
        """Verify a password.

        Args:
            name: as typed.
            began: called when the throttle has given a turn and the check itself begins.
        """

    async def attempt(name: str, kind: SecretKind, *, service: str, address: str) -> IAttempt:
        """Begin to check the proof of a password.

        Args:
            name: as typed.
            kind: of the secrets that are needed; one that is accepted.

        Raises:
            MailError: UNAVAILABLE.
        """

    async def check_token(
        token: str,
        *,
        user: str,
        service: str,
        address: str,
        began: Callable[[], None] = ...,
    ) -> Principal:
        """Verify a bearer token of an OAuth server (RFC 6750).

        Args:
            user: whom the client wants to be, as typed; empty for whom the token names.
            began: as `check_password`.

        Raises:
            MailError: AUTHORIZATION_FAILED also for a token without the scope that is
                needed.
        """

    def token_advice() -> Mapping[str, str]:
        """What a client whose token is refused is told: `scope`, `openid-configuration`
        (RFC 7628 §3.2.2)."""

    async def check_certificate(
        name: str, *, authzid: str, service: str, address: str
    ) -> Principal:
        """Let somebody in whose certificate was verified (SUN-10).

        Args:
            name: login name that the certificate stands for.
        """

    async def act_as(who: Principal, name: str, *, service: str, address: str) -> Principal:
        """Let a store administrator who is in act as another (SUN-14).

        Args:
            name: as typed; whom to act as.
        """


class IThrottle(Interface):
    """Slows down those who fail, over all processes of a server (S7)."""

    async def turn(address: str, name: str) -> float:
        """Take the next turn for a check of this address and name.

        Returns:
            Seconds that the check has to wait, 0 for none; `math.inf` if so many are
            waiting already that it must be refused (then no turn was taken).

        Raises:
            MailError: UNAVAILABLE if the process that gives turns is gone.
        """

    def failed(address: str, name: str) -> None:
        """Count a failure."""

    def succeeded(address: str, name: str) -> None:
        """Forget the failures of this name from this address."""


class IMaildropVisits(Interface):
    """Who opens maildrops by POP3, over all processes on the same data."""

    def enter(account: AccountId) -> Callable[[], None] | None:
        """Take an account's maildrop for one session alone (RFC 1939 §4).

        Returns:
            What gives it back, as the end of the process does; None if it is taken.
        """

    def again_in(account: AccountId, interval: float) -> float:
        """Note that the maildrop is opened, unless that was done a short time ago.

        Args:
            interval: seconds that have to lie between.

        Returns:
            0 if it was noted; else the seconds after which it will be.
        """


class ISession(Interface):
    """A live connection, for the monitor."""

    number: int = Attribute("unique in this process, the same in the log (CGP-1)")
    label: str = Attribute("the number as it stands in the log: IMAP-00012")
    service: str = Attribute("imap, imaps, pop3, pop3s, lmtp, …")
    address: str = Attribute("the client's address")
    account: str = Attribute("canonical name, empty before login")
    secure: bool = Attribute("TLS is on")
    status: str = Attribute("authenticating, connected to MAILBOX, …")
    connected_at: float = Attribute("seconds, by the reactor's clock")

    def disconnect(reason: str) -> None:
        """Say goodbye in the protocol's words and close."""


class ISessionMonitor(Interface):
    """Knows every live session and enforces their numbers."""

    def opened(session: ISession) -> bool:
        """Register a connection; False if it is one too many (SUN-30): refuse it."""

    async def refusal(session: ISession) -> str:
        """Say why the client may not connect from where it is (SUN-20), for the log; empty
        if it may. Waits only where a filter asks for the client's name."""

    def closed(session: ISession) -> None:
        """Forget it."""

    def check_began(session: ISession) -> None:
        """Who it says it is is being checked: until `check_ended`, `logged_in` or `closed` it
        does not have to make room for others."""

    def check_ended(session: ISession) -> None:
        """The check is over, or never began."""

    def login_began(session: ISession) -> None:
        """Who it says it is is looked at from now on: what `kicked` says before is past."""

    def kicked(account: str, reason: str) -> None:
        """The sessions of an account are ended, perhaps because its password or state has
        changed: logins under way, which go by what was before, end in nothing."""

    def logged_in(session: ISession) -> bool:
        """Count it for its account and address; False if that is one too many.

        Raises:
            MailError: UNAVAILABLE if the account was `kicked` since `login_began`.
        """

    def sessions() -> Iterable[ISession]:
        """All live ones."""

    def next_number() -> int:
        """A number for a new session."""


class IEventBus(Interface):
    """Carries `Event`s from those who commit to those who watch (SUN-50).

    Listeners run on the reactor thread, after the commit, at most once per reactor turn
    and mailbox.
    """

    covers_all_mailboxes: bool = Attribute(
        "events work for every mailbox; without it IDLE is not announced (SUN-51)"
    )

    def publish(event: Event) -> None:
        """Tell this process's listeners and the other processes on the same data."""

    def subscribe(ref: MailboxRef, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Watch one mailbox; returns the function that ends it."""

    def subscribe_account(
        account: AccountId, listener: Callable[[Event], None]
    ) -> Callable[[], None]:
        """Watch all mailboxes of an account; returns the function that ends it."""
