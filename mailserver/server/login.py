"""How a client may log in on a connection, for every protocol in which people do.

What is announced, what is accepted and what is refused, and with which words, is decided
here alone: by what is switched on, by what the sources of accounts can check, by the
connection's TLS and by `plaintextmincipher` (SUN-10, SUN-11). The protocols only carry
challenges and responses.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

import attrs

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IAuthenticator
from mailserver.model.ids import Principal
from mailserver.wire import sasl
from mailserver.wire.sasl import Shows

_TOKEN_ERRORS: Final = {
    ErrorKind.AUTHENTICATION_FAILED: "invalid_token",
    ErrorKind.AUTHORIZATION_FAILED: "insufficient_scope",
}
"""Refusals of a token that the client is told of before the exchange ends (RFC 6750 §3.1)."""

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge, not yet in base64, and waits for the line that answers it.

Raises:
    SaslFault: the line is too long.
"""


class Peer(Protocol):
    """What has to be known of a connection.

    Attributes:
        address: the client's.
        secure: TLS is on.
    """

    address: str
    secure: bool

    def peer_account(self) -> str:
        """Login name that the client's certificate stands for; empty for none (SUN-10)."""

    def channel_bindings(self) -> Mapping[bytes, bytes]:
        """What its TLS connection can be told by, type → data; empty without TLS."""

    def login_began(self) -> None:
        """What follows goes by accounts as they are from now on."""

    def check_began(self) -> None:
        """Who the client says it is is being checked, which takes none of its time."""

    def check_ended(self) -> None:
        """The check is over, or never began."""


class LoginSettings(Protocol):
    """What an operator can set; part of each protocol's settings.

    Attributes:
        plaintext_min_cipher: `plaintextmincipher` (SUN-11): 0 allows passwords without TLS,
            more than 0 only with it, -1 never.
        mechanisms: that are switched on, of `sasl.MECHANISMS`.
        hostname: this server's name, for CRAM-MD5.
    """

    @property
    def plaintext_min_cipher(self) -> int: ...
    @property
    def mechanisms(self) -> tuple[bytes, ...]: ...
    @property
    def hostname(self) -> str: ...


@attrs.frozen(eq=False)
class Door:
    """The ways in for one client, as things are now; cheap to make.

    Attributes:
        authenticator: the seam.
        settings: of the listener.
        peer: the client.
        service: as access rules know it.
    """

    authenticator: IAuthenticator
    settings: LoginSettings
    peer: Peer
    service: str

    # -- what is offered ---------------------------------------------------------

    @property
    def takes_passwords(self) -> bool:
        """A password may be sent in clear now: LOGIN, USER and PASS (S2, SUN-11, CGP-7)."""
        return self._may_show(Shows.PASSWORD)

    @property
    def mechanisms(self) -> tuple[bytes, ...]:
        """SASL mechanisms announced and accepted now, upper case, the best first."""
        accepted = self.authenticator.accepts()
        return tuple(
            name
            for name, row in sasl.MECHANISMS.items()
            if name in self.settings.mechanisms
            and row.needs in accepted
            and self._may_show(row.shows)
            and (not row.binds or self.peer.channel_bindings())
        )

    def _may_show(self, shows: Shows) -> bool:
        needed, secure = self.settings.plaintext_min_cipher, self.peer.secure
        if shows is Shows.PASSWORD:
            return needed == 0 or (needed > 0 and secure)
        if shows is Shows.PROOF:
            return needed >= 0
        if shows is Shows.TOKEN:
            return needed == 0 or secure
        return bool(self.peer.peer_account())

    def refusal(self, shows: Shows = Shows.PASSWORD) -> MailError:
        """Why something must not be sent here (T40, SUN-11)."""
        what = "tokens" if shows is Shows.TOKEN else "passwords"
        never = self.settings.plaintext_min_cipher < 0 and shows is not Shows.TOKEN
        text = f"{what} are not taken here" if never else f"{what} are taken over TLS only"
        return MailError(ErrorKind.PRIVACY_REQUIRED, text)

    # -- coming in -----------------------------------------------------------------

    async def log_in(self, name: str, password: str) -> Principal:
        """Check a password that was sent in clear.

        Raises:
            MailError: PRIVACY_REQUIRED; what `IAuthenticator` says.
        """
        if not self.takes_passwords:
            raise self.refusal()
        self.peer.login_began()
        return await self._check(sasl.Credentials("", name, password))

    async def authenticate(self, name: bytes, initial: bytes | None, ask: Ask) -> Principal:
        """Go through a SASL exchange (RFC 4422 §3).

        Args:
            name: of the mechanism, upper case.
            initial: the initial response as it came, in base64; None if there was none.

        Raises:
            SaslFault: the client's octets are wrong, or it has cancelled (T41).
            MailError: CANNOT for a mechanism that is not offered; PRIVACY_REQUIRED; what
                `IAuthenticator` says.
        """
        row = self._offered(name)
        self.peer.login_began()
        mechanism = row.make(
            sasl.Surroundings(
                random=secrets.token_bytes,
                channel_bindings=self.peer.channel_bindings(),
                offers_binding=name + b"-PLUS" in self.mechanisms,
                host=self.settings.hostname,
            )
        )
        try:
            step = mechanism.start(None if initial is None else sasl.decode_initial(initial))
            while isinstance(step, sasl.Challenge):
                step = await self._respond(mechanism, step, ask)
        except sasl.SaslRefused as refused:
            raise MailError(ErrorKind.AUTHENTICATION_FAILED, refused.text) from refused
        match step:
            case sasl.Credentials():
                return await self._check(step)
            case sasl.SecretsWanted():
                return await self._prove(step, mechanism, ask)
            case sasl.Token():
                return await self._check_token(step, ask)
            case sasl.External():
                return await self._check_certificate(step)
            case sasl.Proof():
                raise AssertionError("a proof without secrets to check it against")

    async def _respond(
        self, mechanism: sasl.Mechanism, challenge: sasl.Challenge, ask: Ask
    ) -> sasl.Step:
        return mechanism.respond(sasl.decode_response(await ask(challenge.octets)))

    def _offered(self, name: bytes) -> sasl.Row:
        """The row of a mechanism that is offered now.

        Raises:
            MailError: CANNOT, PRIVACY_REQUIRED.
        """
        row = sasl.MECHANISMS.get(name)
        if row is None:
            raise MailError(ErrorKind.CANNOT, "this mechanism is not known here")
        if name in self.mechanisms:
            return row
        if name not in self.settings.mechanisms or row.needs not in self.authenticator.accepts():
            raise MailError(ErrorKind.CANNOT, "this mechanism is switched off")
        if not self._may_show(row.shows):
            if row.shows is Shows.NOTHING:
                raise MailError(ErrorKind.CANNOT, "no certificate of an account was shown")
            raise self.refusal(row.shows)
        raise MailError(ErrorKind.PRIVACY_REQUIRED, "this mechanism needs TLS")

    @contextmanager
    def _checking(self) -> Iterator[Callable[[], None]]:
        """What is to be called when a check begins; it ends with the block."""
        try:
            yield self.peer.check_began
        finally:
            self.peer.check_ended()

    async def _check(self, claim: sasl.Credentials) -> Principal:
        with self._checking() as began:
            return await self.authenticator.check_password(
                claim.authcid,
                claim.password,
                authzid=claim.authzid,
                service=self.service,
                address=self.peer.address,
                began=began,
            )

    async def _prove(
        self, wanted: sasl.SecretsWanted, mechanism: sasl.Mechanism, ask: Ask
    ) -> Principal:
        """See to the end of an exchange in which the client proves to have a password."""
        attempt = await self.authenticator.attempt(
            wanted.authcid, wanted.kind, service=self.service, address=self.peer.address
        )
        step = wanted.then(attempt.secrets)
        while isinstance(step, sasl.Challenge):
            step = await self._respond(mechanism, step, ask)
        assert isinstance(step, sasl.Proof)
        if step.label is None:
            raise attempt.failed(step.reason)
        principal = await attempt.proved(step.label, step.authzid)
        if step.final is not None and sasl.decode_response(await ask(step.final)):
            raise sasl.SaslFault("expected an empty response")
        return principal

    async def _check_token(self, claim: sasl.Token, ask: Ask) -> Principal:
        try:
            if not claim.token:
                raise MailError(ErrorKind.AUTHENTICATION_FAILED, "no token was sent")
            with self._checking() as began:
                return await self.authenticator.check_token(
                    claim.token,
                    user=claim.user,
                    service=self.service,
                    address=self.peer.address,
                    began=began,
                )
        except MailError as error:
            code = _TOKEN_ERRORS.get(error.kind)
            if code is not None:
                # What the client answers means nothing (RFC 7628 §3.2.3).
                await ask(claim.refusal(code, self.authenticator.token_advice()))
            raise

    async def _check_certificate(self, claim: sasl.External) -> Principal:
        with self._checking() as began:
            began()
            return await self.authenticator.check_certificate(
                self.peer.peer_account(),
                authzid=claim.authzid,
                service=self.service,
                address=self.peer.address,
            )
