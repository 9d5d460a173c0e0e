"""In which words POP3 speaks to people: LANG (RFC 6856 §3).

The English text of a reply is its name in the catalogue of every other language; what is in
braces is filled in afterwards. A refusal that comes from elsewhere in the server is told in
its own English words, and in other languages by its kind.

A further language is one more row of `LANGUAGES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from mailserver.errors import ErrorKind, MailError


@attrs.frozen
class Language:
    """One language.

    Attributes:
        tag: as RFC 5646 has it.
        title: the language's name in itself.
        texts: English text → text; what is missing is told in English.
        kinds: text for each kind of refusal; none in English, where it speaks for itself.
        charset: of what is sent: ASCII until the client asks for a language.
    """

    tag: str
    title: str
    texts: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    kinds: Mapping[ErrorKind, str] = attrs.field(factory=dict, repr=False)
    charset: str = "utf-8"

    def say(self, text: str, values: Mapping[str, object]) -> str:
        """Make a text of its English name and of what is to be filled in."""
        return self.texts.get(text, text).format_map(values)

    def refusal(self, error: MailError) -> str:
        """Make a text of a refusal."""
        return self.kinds.get(error.kind, error.text)


_GERMAN: Final = {
    "and the password": "und das Kennwort",
    "say USER first": "zuerst kommt USER",
    "mechanisms follow": "es folgen die Verfahren",
    "capabilities follow": "es folgen die Fähigkeiten",
    "languages follow": "es folgen die Sprachen",
    "{tag} the language is English": "{tag} die Sprache ist Deutsch",
    "there is no such language here": "diese Sprache gibt es hier nicht",
    "UTF-8 from now on": "von nun an UTF-8",
    "{count} messages ({octets} octets)": "{count} Nachrichten ({octets} Oktette)",
    "TLS is active already": "TLS ist schon eingeschaltet",
    "STLS has to come before UTF8": "STLS muss vor UTF8 kommen",
    "there is no certificate here, so no TLS": "hier gibt es kein Zertifikat, also kein TLS",
    "begin TLS now": "jetzt beginnt TLS",
    "nothing may follow STLS before TLS; closing": "vor TLS darf STLS nichts folgen; Ende",
    "APOP is not offered here": "APOP gibt es hier nicht",
    "the mailbox is in use by another session": "das Postfach ist gerade in Benutzung",
    "too soon after the last login; wait {seconds} s": (
        "zu bald nach der letzten Anmeldung; bitte {seconds} s warten"
    ),
    "message {number} is deleted": "Nachricht {number} ist gelöscht",
    "no such message, only {count} in the maildrop": (
        "diese Nachricht gibt es nicht, es sind nur {count}"
    ),
    "unique ids follow": "es folgen die Kennungen",
    "{octets} octets": "{octets} Oktette",
    "the top of the message follows": "es folgt der Anfang der Nachricht",
    "another session has removed this message": (
        "eine andere Sitzung hat diese Nachricht entfernt"
    ),
    "message {number} is deleted at QUIT": "Nachricht {number} wird bei QUIT gelöscht",
    "nothing done": "nichts getan",
    "bye": "auf Wiedersehen",
    "bye, {count} messages removed": "auf Wiedersehen, {count} Nachrichten entfernt",
    "deleted messages not removed: {reason}": "gelöschte Nachrichten nicht entfernt: {reason}",
    "{count} deleted messages not removed": "{count} gelöschte Nachrichten nicht entfernt",
    "this is allowed only before login": "das geht nur vor der Anmeldung",
    "log in first": "zuerst kommt die Anmeldung",
    "this line is too long": "diese Zeile ist zu lang",
    "internal error (ref {reference})": "innerer Fehler (Nr. {reference})",
    "unknown command": "unbekannter Befehl",
    "a command is missing": "es fehlt der Befehl",
    "control characters are not allowed in a command": (
        "in einem Befehl sind keine Steuerzeichen erlaubt"
    ),
    "a user name has no spaces": "ein Benutzername hat keine Leerzeichen",
    "this command takes no argument": "dieser Befehl hat kein Argument",
    "this number is too large": "diese Zahl ist zu groß",
    "expected text in UTF-8": "erwartet wird Text in UTF-8",
    "server is shutting down": "der Server wird beendet",
    "you did not log in in time": "die Anmeldung kam nicht rechtzeitig",
    "too many connections, try again later": "zu viele Verbindungen, bitte später wieder",
}

_GERMAN_KINDS: Final = {
    ErrorKind.AUTHENTICATION_FAILED: "Name oder Kennwort ist falsch",
    ErrorKind.AUTHORIZATION_FAILED: "das ist hier nicht erlaubt",
    ErrorKind.PRIVACY_REQUIRED: "dafür ist zuerst TLS nötig",
    ErrorKind.EXPIRED: "das Kennwort ist abgelaufen",
    ErrorKind.DISABLED: "dieses Konto oder dieser Dienst ist abgeschaltet",
    ErrorKind.IN_USE: "das Postfach ist gerade in Benutzung",
    ErrorKind.UNAVAILABLE: "das geht gerade nicht, bitte später wieder",
    ErrorKind.DISK_FULL: "auf dem Server ist kein Platz mehr",
    ErrorKind.OVER_QUOTA: "das Postfach ist voll",
    ErrorKind.LIMIT: "eine Grenze ist erreicht",
    ErrorKind.TOO_MANY: "zu viele Sitzungen oder Versuche, bitte später wieder",
    ErrorKind.CORRUPT: "die Daten dieses Kontos sind beschädigt",
    ErrorKind.NONEXISTENT: "es gibt kein Postfach",
    ErrorKind.NO_PERMISSION: "dazu fehlt das Recht",
    ErrorKind.CANNOT: "das geht hier nicht",
    ErrorKind.READ_ONLY: "hier kann nur gelesen werden",
}

DEFAULT: Final = Language("i-default", "English", charset="ascii")
"""Before the client asks for a language (RFC 2277)."""

LANGUAGES: Final = (
    Language("i-default", "English"),
    Language("en", "English"),
    Language("de", "Deutsch", _GERMAN, _GERMAN_KINDS),
)
"""All that LANG offers; the first is where there is no better one."""

TAGS: Final = tuple(language.tag for language in LANGUAGES)


def find_language(wanted: str) -> Language | None:
    """Find the language for a basic language range: itself, else by its beginning, so that
    `de-at` gives `de` (RFC 4647, lookup).

    Args:
        wanted: lower case, not `*`.
    """
    by_tag = {language.tag: language for language in LANGUAGES}
    while wanted not in by_tag:
        wanted, _, last = wanted.rpartition("-")
        if not last or not wanted:
            return None
    return by_tag[wanted]
