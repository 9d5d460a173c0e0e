"""Where keys and words on tokens come from: how often is asked, what holds while nobody
answers, and how much of an answer is read."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from mailserver.auth.tokens import TokenExpired
from mailserver.auth.tokens.http import MAX_DOCUMENT, HttpClient
from mailserver.auth.tokens.introspection import Introspection, IntrospectionServer
from mailserver.auth.tokens.keys import STALE_AFTER, FetchedKeys, matching, read_keys
from mailserver.errors import ErrorKind, MailError

EC = jwt.algorithms.ECAlgorithm.to_jwk(
    ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True
)
RSA = jwt.algorithms.RSAAlgorithm.to_jwk(
    rsa.generate_private_key(65537, 2048).public_key(), as_dict=True
)


def test_keys_that_are_for_something_else_are_left_out() -> None:
    document = {
        "keys": [
            {**EC, "kid": "1"},
            {**EC, "kid": "2", "use": "enc"},
            {"kty": "oct", "kid": "3", "k": "c2VjcmV0"},
            {**RSA, "kid": "4", "alg": "PS256"},
            {**RSA, "kid": 5},
            {**EC, "crv": "P-999"},
            "nothing",
        ]
    }
    keys = read_keys(document)
    assert [key.id for key in keys] == ["1", "4"]
    assert [key.id for key in matching(keys, "", "ES256")] == ["1"]
    assert [key.id for key in matching(keys, "4", "PS256")] == ["4"]
    assert matching(keys, "4", "RS256") == []  # RFC 8725 §3.1
    assert matching(keys, "1", "RS256") == []


def test_a_private_key_that_was_put_there_is_used_as_public() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    [key] = read_keys({"keys": [jwt.algorithms.ECAlgorithm.to_jwk(private, as_dict=True)]})
    assert isinstance(key.public, ec.EllipticCurvePublicKey)


class Source:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    async def get(self, url: str) -> Any:
        self.asked.append(Deferred())
        return await self.asked[-1]

    async def post(self, url: str, form: dict[str, str], authorization: str) -> Any:
        self.form, self.authorization = form, authorization
        return await self.get(url)

    def down(self) -> None:
        self.asked[-1].errback(MailError(ErrorKind.UNAVAILABLE, "down"))


class Fetched(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.source = Clock(), Source()
        self.clock.rightNow = 1e6
        self.keys = FetchedKeys(self.source, "u", self.clock, kept_for=3600.0, pause=30.0)

    def find(self, key_id: str = "1") -> Deferred[Any]:
        return ensureDeferred(self.keys.find(key_id, "ES256"))

    def answer(self, *ids: str) -> None:
        self.source.asked[-1].callback({"keys": [{**EC, "kid": one} for one in ids]})

    def test_all_who_come_meanwhile_wait_for_one_answer(self) -> None:
        waiting = [self.find() for _ in range(3)]
        self.assertEqual(len(self.source.asked), 1)
        self.answer("1")
        for one in waiting:
            self.assertEqual(len(self.successResultOf(one)), 1)
        self.successResultOf(self.find())
        self.assertEqual(len(self.source.asked), 1)

    def test_old_keys_are_fetched_anew_and_serve_for_a_day_when_that_fails(self) -> None:
        first = self.find()
        self.answer("1")
        self.successResultOf(first)
        for hours in range(23):
            self.clock.advance(3600.5)
            again = self.find()
            self.source.down()
            self.assertEqual(len(self.successResultOf(again)), 1, f"after {hours + 1} hours")
        self.clock.advance(STALE_AFTER - 23 * 3600)
        late = self.find()
        self.source.down()
        self.assertIs(self.failureResultOf(late, MailError).value.kind, ErrorKind.UNAVAILABLE)

    def test_unknown_keys_are_asked_for_once_in_a_while(self) -> None:
        first = self.find("2")
        self.answer("1")
        self.assertEqual(self.successResultOf(first), [])
        self.assertEqual(self.successResultOf(self.find("2")), [])
        self.assertEqual(len(self.source.asked), 1)
        self.clock.advance(30)
        again = self.find("2")
        self.assertEqual(len(self.source.asked), 2)
        self.answer("1", "2")
        self.assertEqual(len(self.successResultOf(again)), 1)

    def test_an_answer_that_holds_no_keys_changes_nothing(self) -> None:
        first = self.find()
        self.answer("1")
        self.successResultOf(first)
        self.clock.advance(4000)
        again = self.find()
        self.source.asked[-1].callback({"keys": []})
        self.assertEqual(len(self.successResultOf(again)), 1)

    def test_a_server_that_is_away_is_not_asked_by_everybody(self) -> None:
        first = self.find()
        self.source.down()
        self.failureResultOf(first, MailError)
        for _ in range(5):
            self.failureResultOf(self.find(), MailError)
        self.assertEqual(len(self.source.asked), 1)


class Introspected(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.source = Clock(), Source()
        server = IntrospectionServer("u", "a:b", "p w", remembered_for=60.0)
        self.words = Introspection(
            self.source, server, self.clock, lambda: 1e9 + self.clock.seconds(), leeway=0.0
        )

    def ask(self, token: str = "t") -> Deferred[Any]:
        return ensureDeferred(self.words.claims(token))

    def test_good_answers_are_remembered_and_bad_ones_are_not(self) -> None:
        first = self.ask()
        self.source.asked[-1].callback({"active": True, "exp": 1e9 + 90})
        self.assertEqual(self.successResultOf(first)["active"], True)
        self.assertEqual(self.source.form["token"], "t")
        self.assertEqual(self.source.authorization, "Basic YSUzQWI6cCUyMHc=")
        self.clock.advance(59)
        self.successResultOf(self.ask())
        self.assertEqual(len(self.source.asked), 1)
        self.clock.advance(2)
        later = self.ask()
        self.source.asked[-1].callback({"active": True, "exp": 1e9 + 90})
        self.successResultOf(later)
        self.clock.advance(29)  # remembered, but over
        self.failureResultOf(self.ask(), TokenExpired)
        for _ in range(2):
            other = self.ask("other")
            self.source.asked[-1].callback({"active": False})
            error = self.failureResultOf(other, MailError).value
            self.assertIs(error.kind, ErrorKind.AUTHENTICATION_FAILED)
        self.assertEqual(len(self.source.asked), 4)

    def test_an_answer_that_says_nothing_is_none(self) -> None:
        for answer in ({}, [], {"active": "yes"}, None):
            asked = self.ask()
            self.source.asked[-1].callback(answer)
            error = self.failureResultOf(asked, MailError).value
            self.assertIs(error.kind, ErrorKind.UNAVAILABLE)


class Answers(Resource):
    """Bad ones, by path."""

    isLeaf = True

    def render_GET(self, request: Any) -> Any:
        kind = request.path.decode().strip("/")
        if kind == "long":
            return b"[" + b"1," * MAX_DOCUMENT
        if kind == "deep":
            return b"[" * 100_000
        if kind == "elsewhere":
            request.redirect(b"/good")
            return b""
        if kind == "silent":
            return NOT_DONE_YET
        if kind == "cut":
            request.setHeader("Content-Length", "100")
            request.write(b"{")
            request.transport.loseConnection()
            return NOT_DONE_YET
        if kind == "broken":
            request.setResponseCode(500)
        return {"good": json.dumps({"a": 1}).encode()}.get(kind, b"<html>")


class Http(TestCase):
    def setUp(self) -> None:
        made: Any = reactor
        self.port = made.listenTCP(0, Site(Answers()), interface="127.0.0.1")
        self.addCleanup(maybeDeferred, self.port.stopListening)
        self.client = HttpClient(reactor, 0.5)

    def get(self, path: str) -> Coroutine[Any, Any, Any]:
        return self.client.get(f"http://127.0.0.1:{self.port.getHost().port}/{path}")

    async def refused(self, path: str) -> str:
        try:
            result = await self.get(path)
        except MailError as error:
            self.assertIs(error.kind, ErrorKind.UNAVAILABLE)
            return error.text
        raise self.failureException(f"taken: {result!r}")

    async def test_what_is_taken_and_what_is_not(self) -> None:
        self.assertEqual(await self.get("good"), {"a": 1})
        for path, reason in (
            ("long", "the answer has more than"),
            ("deep", "no JSON"),
            ("elsewhere", "the answer is 302"),
            ("silent", "no answer in 0.5 s"),
            ("cut", "/cut: "),
            ("broken", "the answer is 500"),
            ("page", "no JSON"),
        ):
            self.assertIn(reason, await self.refused(path), path)

    async def test_nobody_is_there(self) -> None:
        number = self.port.getHost().port
        await self.port.stopListening()
        with self.assertRaisesRegex(MailError, "refused"):
            await self.client.get(f"http://127.0.0.1:{number}/good")
