"""Asking an OAuth server: small JSON documents over HTTP, with limits.

Redirections are not followed: what is asked is configured. Nothing of an answer is ever
shown to a client.
"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionClosed
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    FileBodyProducer,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from mailserver.errors import ErrorKind, MailError

MAX_DOCUMENT = 1024 * 1024
"""Octets of an answer; more is not read."""


class JsonSource(Protocol):
    """Where JSON documents come from; the one implementation is `HttpClient`."""

    async def get(self, url: str) -> Any:
        """Fetch a document. Raises `MailError` UNAVAILABLE with the reason."""

    async def post(self, url: str, form: dict[str, str], authorization: str) -> Any:
        """Send a form and take the document that answers it; raises as `get`.

        Args:
            authorization: value of that header, empty for none.
        """


class HttpClient:
    """Asks, with a connection for each question.

    Args:
        reactor: the real one.
        timeout: seconds for a whole answer.
        authorities: PEM file of the authorities that are trusted; None for those of the
            system.

    Raises:
        ValueError: the file holds no certificate.
        OSError: it cannot be read.
    """

    def __init__(self, reactor: Any, timeout: float, authorities: Path | None = None) -> None:
        self._reactor = reactor
        self._timeout = timeout
        trust: Any = platformTrust() if authorities is None else _trust(authorities)  # type: ignore[no-untyped-call]
        policy = BrowserLikePolicyForHTTPS(trust)  # type: ignore[no-untyped-call]
        self._agent = Agent(  # type: ignore[no-untyped-call]
            reactor, policy, connectTimeout=timeout
        )

    async def get(self, url: str) -> Any:
        """See `JsonSource`."""
        return await self._ask(b"GET", url, Headers(), None)

    async def post(self, url: str, form: dict[str, str], authorization: str) -> Any:
        """See `JsonSource`."""
        headers = Headers({"Content-Type": ["application/x-www-form-urlencoded"]})
        if authorization:
            headers.addRawHeader("Authorization", authorization)
        body = FileBodyProducer(  # type: ignore[no-untyped-call]
            BytesIO(urlencode(form).encode("ascii"))
        )
        return await self._ask(b"POST", url, headers, body)

    async def _ask(
        self, method: bytes, url: str, headers: Headers, body: FileBodyProducer | None
    ) -> Any:
        headers.addRawHeader("Accept", "application/json")
        exchange = Deferred.fromCoroutine(self._exchange(method, url, headers, body))
        exchange.addTimeout(self._timeout, self._reactor)
        try:
            octets = await exchange
        except _FAULTS as error:
            inner = _innermost(error)
            if isinstance(inner, TimeoutError | CancelledError):
                raise _unavailable(url, f"no answer in {self._timeout:g} s") from None
            raise _unavailable(url, str(inner) or type(inner).__name__) from error
        try:
            return json.loads(octets)
        except (ValueError, RecursionError):
            raise _unavailable(url, "the answer is no JSON") from None

    async def _exchange(
        self, method: bytes, url: str, headers: Headers, body: FileBodyProducer | None
    ) -> bytes:
        response: IResponse = await self._agent.request(method, url.encode("ascii"), headers, body)
        whole = _Body()
        response.deliverBody(whole)  # type: ignore[no-untyped-call]
        octets = await whole.complete
        if response.code != 200:
            raise _unavailable(url, f"the answer is {response.code}")
        return octets


class _Body(TwistedProtocol):
    """Collects the body of a response."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self.complete: Deferred[bytes] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        if len(self._octets) > MAX_DOCUMENT:
            self._abort()
            if not self.complete.called:
                text = f"the answer has more than {MAX_DOCUMENT} octets"
                self.complete.errback(ConnectionAborted(text))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.complete.called:
            return
        if isinstance(reason.value, ResponseDone):
            self.complete.callback(bytes(self._octets))
        else:
            self.complete.errback(reason)

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()


def _trust(authorities: Path) -> Any:
    certificates = x509.load_pem_x509_certificates(authorities.read_bytes())
    loaded = [Certificate.loadPEM(one.public_bytes(Encoding.PEM)) for one in certificates]
    return trustRootFromCertificates(loaded)  # type: ignore[no-untyped-call]


_FAULTS: Final = (
    OSError,  # no such name
    TimeoutError,
    CancelledError,
    ConnectError,
    ConnectionClosed,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
)
"""What Twisted's client raises when there is no answer."""


def _unavailable(url: str, reason: str) -> MailError:
    return MailError(ErrorKind.UNAVAILABLE, f"{url}: {reason}")


def _innermost(error: Exception) -> Exception:
    """What Twisted's client has wrapped."""
    reasons = getattr(error, "reasons", None)
    inner: Exception = reasons[0].value if reasons else error
    return inner
