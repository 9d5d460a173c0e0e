r"""Plays a transcript: IMAP conversations of several connections, line by line.

A line holds one or more cells with two or more spaces between them; a cell is the number
of a connection, a mark, and text:

    1: a NOOP          connection 1 sends a command and waits for its answer
    1. a NOOP          ... sends it and goes on at once (pipelining)
    1~ octets          ... sends a line that is no command of its own
    1< * 3 EXISTS      connection 1 must now be sent this
    1! closed          the server has closed connection 1

A command must be answered by exactly the responses written after it, then by `tag OK`
unless a tagged response is written. (What SELECT and EXAMINE tell may be left out as a
whole.) So what is not written must not come: `1: b NOOP` alone says that there is no news.
After a `+` response the next `1:` continues the command.

In expected text `...` stands for anything and `$name` for a word without spaces and
brackets, the same wherever it is used. `\r\n` is CRLF, for literals. A line that begins
with `#`, and what follows two spaces and `#`, is a comment.

Directives:

    % settings NAME=VALUE ...     of ImapSettings, before anything else
    % account NAME                one more account, password `secret`
    % login N NAME                connection N, logged in as NAME (else ann@example.org)
    % raw N                       connection N, greeting not read and not logged in
    % append MAILBOX FLAG ...     a message comes into a mailbox of ann@example.org
    % deliver                     a message is delivered to ann@example.org
    % time SECONDS                time passes
    % close N                     the client breaks the connection
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import attrs

from mailserver.server.imap.settings import ImapSettings
from tests.server.rig import MAIL, Client, Rig, rig

_CELL = re.compile(r"(\d)([:.~<!])(?: |$)")
_BETWEEN = re.compile(r"\s{2,}(?=\d[:.~<!](?: |$))")
_COMMENT = re.compile(r"(?:^|\s{2,})#(?: .*)?$")
_VARIABLE = re.compile(r"\\\$([a-z]\w*)")
_OPENING = ("SELECT", "EXAMINE")


@attrs.define
class Talk:
    """One connection and the commands of it that are not answered yet.

    Attributes:
        tags: of those commands, in order, with the command's name.
        waits: the answer is to be read before anything else happens.
        continued: the server asked for more; what is sent next goes on with the command.
        told: responses were written for the command that waits.
    """

    client: Client
    tags: list[tuple[str, str]] = attrs.field(factory=list)
    waits: bool = False
    continued: bool = False
    told: bool = False


class TranscriptError(AssertionError):
    """The conversation was another one."""


class Player:
    """Plays one transcript on one server."""

    def __init__(self, server: Rig, split: int) -> None:
        self.server = server
        self.split = split
        self.talks: dict[int, Talk] = {}
        self.values: dict[str, str] = {}

    def play(self, text: str) -> None:
        """Play all lines.

        Raises:
            TranscriptError: at the first line that does not come true.
        """
        for number, line in enumerate([*text.splitlines(), "% end"], 1):
            try:
                self.line(_COMMENT.sub("", line).strip())
            except AssertionError as error:
                raise TranscriptError(f"line {number}: {line.strip()}\n  {error}") from None

    def line(self, line: str) -> None:
        """Play one line without its comment."""
        if not line:
            return
        if line.startswith("%"):
            self.settle()
            name, *words = line[1:].split()
            getattr(self, "do_" + name)(*words)
            return
        for cell in _BETWEEN.split(line):
            match = _CELL.match(cell)
            assert match is not None, f"not a cell: {cell!r}"
            self.cell(int(match[1]), match[2], cell[match.end() :])

    def cell(self, number: int, mark: str, text: str) -> None:
        """Play one cell."""
        if mark == "<":
            self.expect(self.talk(number), text)
            return
        if mark == "!":
            self.server.loop.until(lambda: self.talk(number).client.is_closed, "the end")
            return
        talk = self.talk(number)
        self.settle(but=talk if talk.tags and not talk.waits else None)
        if talk.waits or not talk.tags:
            self.nothing_left(number)
        if mark != "~" and not talk.continued:
            words = text.split(" ")
            talk.tags.append((words[0], words[1].upper() if len(words) > 1 else ""))
            talk.told = False
        talk.continued = False
        talk.waits = mark == ":"
        talk.client.send(self.filled(text).replace("\\r\\n", "\r\n").encode() + b"\r\n")

    def talk(self, number: int) -> Talk:
        """The connection of a number, made and logged in when it is first used."""
        if number not in self.talks:
            self.do_login(str(number), "ann@example.org")
        return self.talks[number]

    def settle(self, but: Talk | None = None) -> None:
        """Have every command that waits answered with OK."""
        for talk in self.talks.values():
            if talk is not but and talk.waits and not talk.continued:
                while talk.tags:
                    self.expect_ok(talk)
                talk.waits = False

    def expect_ok(self, talk: Talk) -> None:
        """Read the tagged OK of the oldest command."""
        tag, name = talk.tags[0]
        response = talk.client.read_response().decode()
        while response.startswith("* ") and name in _OPENING and not talk.told:
            response = talk.client.read_response().decode()
        assert response.startswith(f"{tag} OK "), f"instead of {tag} OK came {response!r}"
        del talk.tags[0]

    def expect(self, talk: Talk, text: str) -> None:
        """Read one response and compare it."""
        response = talk.client.read_response().decode()
        match = re.fullmatch(self.pattern(text), response, re.DOTALL)
        assert match is not None, f"came {response!r}"
        self.values.update(match.groupdict())
        talk.told = True
        if text.startswith("+"):
            talk.continued = True
        elif talk.tags and response.startswith(talk.tags[0][0] + " "):
            talk.continued = False
            del talk.tags[0]

    def pattern(self, text: str) -> str:
        """Make a regular expression of expected text."""
        escaped = re.escape(text.replace("\\r\\n", "\r\n")).replace(r"\.\.\.", ".*")

        def variable(match: re.Match[str]) -> str:
            name = match[1]
            if name in self.values:
                return re.escape(self.values[name])
            return rf"(?P<{name}>[^ ()\[\]]+)"

        return _VARIABLE.sub(variable, escaped)

    def filled(self, text: str) -> str:
        """Put captured values into what is sent."""
        return re.sub(r"\$([a-z]\w*)", lambda match: self.values.get(match[1], match[0]), text)

    def nothing_left(self, number: int) -> None:
        """Check that a connection was sent no more than was expected."""
        left = self.talks[number].client.take()
        assert not left, f"connection {number} was also sent {left!r}"

    # -- directives ---------------------------------------------------------

    def do_end(self) -> None:
        for number in self.talks:
            self.nothing_left(number)

    def do_account(self, name: str) -> None:
        self.server.add_account(name)

    def do_login(self, number: str, name: str) -> None:
        self.talks[int(number)] = Talk(self.server.client(name, split=self.split))

    def do_raw(self, number: str) -> None:
        self.talks[int(number)] = Talk(self.server.connect(split=self.split))

    def do_append(self, mailbox: str, *flags: str) -> None:
        self.server.append(MAIL, *flags, mailbox=mailbox)
        self.server.settle()

    def do_deliver(self) -> None:
        self.server.deliver(MAIL)
        self.server.settle()

    def do_time(self, seconds: str) -> None:
        self.server.loop.advance(float(seconds))
        self.server.settle()

    def do_close(self, number: str) -> None:
        self.talks[int(number)].client.close()
        self.server.settle()


_SETTINGS = re.compile(r"^% settings (.*)$", re.MULTILINE)


def play(text: str, data: Path, split: int) -> None:
    """Play a transcript on a server of its own.

    Args:
        data: an empty directory.
        split: octets per packet of the clients; 0 for a packet per line.
    """
    options = {}
    for words in _SETTINGS.findall(text):
        for word in words.split():
            name, _, value = word.partition("=")
            options[name] = ast.literal_eval(value)
    with rig(data, ImapSettings(**options)) as server:
        Player(server, split).play(_SETTINGS.sub("", text))
