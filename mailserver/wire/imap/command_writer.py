"""Commands as octets, for the client: the reverse of `grammar` (RFC 3501 §9).

`write_command` gives the pieces of a command: after each but the last the client waits for
`+`, because the server has to admit the literal that follows (RFC 3501 §4.3). With LITERAL+
there is one piece (RFC 7888).

As in `writer`, what came from outside cannot break out of its place (W13): CR, LF and
8-bit octets go into literals, NUL and words that are no atoms are a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

from mailserver.model import search as s
from mailserver.model.flags import SYSTEM_NAMES
from mailserver.wire.imap import commands as c
from mailserver.wire.imap import mutf7
from mailserver.wire.imap.writer import (
    atom,
    binary_label,
    flag_list,
    flag_names,
    internal_date,
    is_astring_atom,
    is_quotable,
    number_set,
    quoted_or_literal,
    section_spec,
)


class Pieces:
    """A command that grows, cut where the client has to wait.

    Args:
        literal_plus: the server has LITERAL+, so there is no waiting.
        utf8: UTF8=ACCEPT was enabled: names are UTF-8.
    """

    def __init__(self, literal_plus: bool = False, utf8: bool = False) -> None:
        self._literal_plus = literal_plus
        self._utf8 = utf8
        self._complete: list[bytes] = []
        self._octets = bytearray()

    def add(self, octets: bytes) -> None:
        """Add octets that are right as they are."""
        self._octets += octets

    def string(self, octets: bytes) -> None:
        """Add a string: quoted where that is possible, else as a literal.

        Raises:
            ValueError: a NUL.
        """
        if is_quotable(octets):
            self._octets += quoted_or_literal(octets)
            return
        if b"\0" in octets:
            raise ValueError("a NUL cannot be sent")
        plus = b"+" * self._literal_plus
        self._octets += b"{%d%b}\r\n" % (len(octets), plus)
        if not self._literal_plus:
            self._complete.append(bytes(self._octets))
            self._octets.clear()
        self._octets += octets

    def astring(self, octets: bytes) -> None:
        """Add a string, as an atom where that is possible."""
        if is_astring_atom(octets):
            self._octets += octets
        else:
            self.string(octets)

    def mailbox(self, name: str) -> None:
        """Add a mailbox name (T21)."""
        self.astring(self._name(name))

    def pattern(self, pattern: str) -> None:
        """Add a mailbox name with wildcards."""
        self.string(self._name(pattern))

    def _name(self, name: str) -> bytes:
        return name.encode("utf-8") if self._utf8 else mutf7.encode(name)

    def list_of(self, items: Iterable[Any], add: Callable[[Any], None]) -> None:
        """Add a list in parentheses."""
        self.add(b"(")
        for number, item in enumerate(items):
            if number:
                self.add(b" ")
            add(item)
        self.add(b")")

    @property
    def is_ascii(self) -> bool:
        """Nothing but US-ASCII was added so far."""
        return self._octets.isascii() and all(piece.isascii() for piece in self._complete)

    def finished(self) -> list[bytes]:
        """Give the pieces."""
        return [*self._complete, bytes(self._octets)]


def write_command(
    tag: bytes, command: c.Command, *, literal_plus: bool = False, utf8: bool = False
) -> list[bytes]:
    """Write a command.

    An APPEND ends with the announcement of its message: its octets come next (after a `+`
    if the announcement is synchronizing), then what `write_append_next` gives.

    Args:
        tag: an atom without `+`.
        literal_plus: the server has LITERAL+ (RFC 7888).
        utf8: UTF8=ACCEPT was enabled.

    Returns:
        Pieces to be sent, with a wait for `+` between each two; the last ends with CRLF.

    Raises:
        ValueError: a part of the command has no form on the wire.
    """
    pieces = Pieces(literal_plus, utf8)
    pieces.add(atom(tag) + b" ")
    _WRITERS[type(command)](pieces, command)
    pieces.add(b"\r\n")
    return pieces.finished()


def write_append_next(message: c.AppendMessage | None) -> bytes:
    """Write what follows a message of APPEND: the next one's announcement (RFC 3502), or
    the end of the command for None.
    """
    return b"\r\n" if message is None else b" %b\r\n" % _announcement(message)


def _announcement(message: c.AppendMessage) -> bytes:
    words = [flag_list(message.flags)]
    if message.date is not None:
        words.append(internal_date(message.date))
    tilde, plus = b"~" * message.binary, b"+" * (not message.synchronizing)
    words.append(b"%b{%d%b}" % (tilde, message.size, plus))
    return b" ".join(words)


# -- commands ----------------------------------------------------------------------------

_Writer = Callable[[Pieces, Any], None]


def _bare(name: bytes) -> _Writer:
    return lambda out, command: out.add(name)


def _one_mailbox(name: bytes) -> _Writer:
    def write(out: Pieces, command: Any) -> None:
        out.add(name + b" ")
        out.mailbox(command.mailbox)

    return write


def _id(out: Pieces, command: c.Id) -> None:
    def field(pair: tuple[str, str | None]) -> None:
        name, value = pair
        out.string(name.encode("utf-8"))
        out.add(b" ")
        if value is None:
            out.add(b"NIL")
        else:
            out.string(value.encode("utf-8"))

    out.add(b"ID ")
    if command.fields is None:
        out.add(b"NIL")
    else:
        out.list_of(command.fields, field)


def _authenticate(out: Pieces, command: c.Authenticate) -> None:
    out.add(b"AUTHENTICATE " + atom(command.mechanism))
    if command.initial is not None:
        out.add(b" " + atom(command.initial))


def _login(out: Pieces, command: c.Login) -> None:
    out.add(b"LOGIN ")
    out.astring(command.user.encode("utf-8"))
    out.add(b" ")
    out.astring(command.password.encode("utf-8"))


def _proxyauth(out: Pieces, command: c.ProxyAuth) -> None:
    out.add(b"PROXYAUTH ")
    out.astring(command.user.encode("utf-8"))


def _enable(out: Pieces, command: c.Enable) -> None:
    out.add(b" ".join((b"ENABLE", *map(atom, command.names))))


def _no_parameters(parameters: tuple[c.Parameter, ...]) -> None:
    if parameters:
        raise ValueError("parameters cannot be written yet")


def _select(out: Pieces, command: c.Select) -> None:
    _no_parameters(command.parameters)
    out.add(b"EXAMINE " if command.read_only else b"SELECT ")
    out.mailbox(command.mailbox)


def _create(out: Pieces, command: c.Create) -> None:
    out.add(b"CREATE ")
    out.mailbox(command.mailbox)
    if command.special_uses:
        out.add(b" (USE %b)" % flag_names(command.special_uses))


def _rename(out: Pieces, command: c.Rename) -> None:
    out.add(b"RENAME ")
    out.mailbox(command.old)
    out.add(b" ")
    out.mailbox(command.new)


def _status(out: Pieces, command: c.Status) -> None:
    out.add(b"STATUS ")
    out.mailbox(command.mailbox)
    out.add(b" " + _attributes(command.attributes))


def _attributes(attributes: tuple[c.StatusAtt, ...]) -> bytes:
    return b"(%b)" % b" ".join(attribute.value for attribute in attributes)


def _list(out: Pieces, command: c.List) -> None:
    out.add(b"LIST ")
    if command.select:
        out.add(b"(%b) " % b" ".join(o.value for o in c.ListSelect if o in command.select))
    out.mailbox(command.reference)
    out.add(b" ")
    if len(command.patterns) == 1:
        out.pattern(command.patterns[0])
    else:
        out.list_of(command.patterns, out.pattern)
    options = [option.value for option in c.ListReturn if option in command.returns]
    if command.status:
        options.append(b"STATUS " + _attributes(command.status))
    if options:
        out.add(b" RETURN (%b)" % b" ".join(options))


def _lsub(out: Pieces, command: c.Lsub) -> None:
    out.add(b"LSUB ")
    out.mailbox(command.reference)
    out.add(b" ")
    out.pattern(command.pattern)


def _append(out: Pieces, command: c.Append) -> None:
    out.add(b"APPEND ")
    out.mailbox(command.mailbox)
    out.add(b" " + _announcement(command.first))


def _expunge(out: Pieces, command: c.Expunge) -> None:
    if command.uids is None:
        out.add(b"EXPUNGE")
    else:
        out.add(b"UID EXPUNGE " + number_set(command.uids))


def _uid(by_uid: bool) -> bytes:
    return b"UID " if by_uid else b""


def _copy(out: Pieces, command: c.Copy | c.Move) -> None:
    name = b"COPY" if isinstance(command, c.Copy) else b"MOVE"
    out.add(b"%b%b %b " % (_uid(command.by_uid), name, number_set(command.numbers)))
    out.mailbox(command.mailbox)


def _store(out: Pieces, command: c.Store) -> None:
    _no_parameters(command.modifiers)
    out.add(
        b"%bSTORE %b %b%b %b"
        % (
            _uid(command.by_uid),
            number_set(command.numbers),
            command.operation.value.encode("ascii"),
            b".SILENT" * command.silent,
            flag_list(command.flags),
        )
    )


def _fetch(out: Pieces, command: c.Fetch) -> None:
    _no_parameters(command.modifiers)
    items = b" ".join(map(_fetch_item, command.items))
    out.add(b"%bFETCH %b (%b)" % (_uid(command.by_uid), number_set(command.numbers), items))


def _fetch_item(item: c.FetchItem) -> bytes:
    if isinstance(item, c.FetchAtt):
        name: bytes = item.value
        return name
    if isinstance(item, c.BinarySize):
        return binary_label(b"BINARY.SIZE", item.path)
    if isinstance(item, c.BinarySection):
        label = binary_label(b"BINARY.PEEK" if item.peek else b"BINARY", item.path)
    elif item.old_name:
        return item.old_name
    else:
        name = b"BODY.PEEK" if item.peek else b"BODY"
        label = b"%b[%b]" % (name, section_spec(item))
    return label if item.partial is None else b"%b<%d.%d>" % (label, *item.partial)


# -- search programmes -------------------------------------------------------------------


def _search(out: Pieces, command: c.Search) -> None:
    out.add(_uid(command.by_uid) + b"SEARCH ")
    if command.returns is not None:
        options = b" ".join(o.value for o in c.SearchReturn if o in command.returns)
        out.add(b"RETURN (%b) " % options)
    if command.charset is not None:
        out.add(b"CHARSET ")
        out.astring(command.charset.encode("ascii"))
        out.add(b" ")
    key = command.key
    if isinstance(key, s.And) and len(key.keys) > 1:
        _keys(out, key.keys)
    else:
        _key(out, key)
    if not out.is_ascii and command.charset is not None and command.charset.upper() != "UTF-8":
        raise ValueError(f"text is written in UTF-8, and not in {command.charset}")


def _keys(out: Pieces, keys: tuple[s.SearchKey, ...]) -> None:
    for number, key in enumerate(keys):
        if number:
            out.add(b" ")
        _key(out, key)


_DATE_KEYS = {
    (s.DateField.INTERNAL, s.DateRelation.BEFORE): b"BEFORE",
    (s.DateField.INTERNAL, s.DateRelation.ON): b"ON",
    (s.DateField.INTERNAL, s.DateRelation.SINCE): b"SINCE",
    (s.DateField.SENT, s.DateRelation.BEFORE): b"SENTBEFORE",
    (s.DateField.SENT, s.DateRelation.ON): b"SENTON",
    (s.DateField.SENT, s.DateRelation.SINCE): b"SENTSINCE",
}
_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def _key(out: Pieces, key: s.SearchKey) -> None:
    match key:
        case s.All():
            out.add(b"ALL")
        case s.And(keys):
            if not keys:
                raise ValueError("an empty list of search keys cannot be sent")
            out.add(b"(")
            _keys(out, keys)
            out.add(b")")
        case s.Or(first, second):
            out.add(b"OR ")
            _keys(out, (first, second))
        case s.Not(inner):
            out.add(b"NOT ")
            _key(out, inner)
        case s.HasFlag(flag):
            out.add(SYSTEM_NAMES[flag][1:].upper().encode("ascii"))
        case s.HasKeyword(keyword):
            out.add(b"KEYWORD " + atom(keyword.encode("ascii")))
        case s.IsRecent():
            out.add(b"RECENT")
        case s.Sequence(numbers):
            out.add(number_set(numbers))
        case s.UidSequence(uids):
            out.add(b"UID " + number_set(uids))
        case s.Uids(uids):
            out.add(b"UID " + number_set(uids))
        case s.DateKey(field, relation, day):
            name = _DATE_KEYS.get((field, relation))
            if name is None:
                raise ValueError("searches by save date cannot be written yet")
            on = date.fromordinal(day)
            out.add(b"%b %d-%b-%04d" % (name, on.day, _MONTHS[on.month - 1], on.year))
        case s.Larger(size):
            out.add(b"LARGER %d" % size)
        case s.Smaller(size):
            out.add(b"SMALLER %d" % size)
        case s.Header("Subject", text):
            _text(out, b"SUBJECT", text)
        case s.Addresses(field_name, text):
            _text(out, field_name.upper().encode("ascii"), text)
        case s.Header(field_name, text):
            out.add(b"HEADER ")
            out.astring(field_name.encode("ascii"))
            _text(out, b"", text)
        case s.Body(text):
            _text(out, b"BODY", text)
        case s.Text(text):
            _text(out, b"TEXT", text)
        case s.ModSeqAtLeast():
            raise ValueError("searches by mod-sequence cannot be written yet")


def _text(out: Pieces, name: bytes, text: str) -> None:
    out.add(name + b" ")
    out.string(text.encode("utf-8"))


_WRITERS: dict[type, _Writer] = {
    c.Capability: _bare(b"CAPABILITY"),
    c.Noop: _bare(b"NOOP"),
    c.Logout: _bare(b"LOGOUT"),
    c.Id: _id,
    c.StartTls: _bare(b"STARTTLS"),
    c.Authenticate: _authenticate,
    c.Login: _login,
    c.ProxyAuth: _proxyauth,
    c.Enable: _enable,
    c.Select: _select,
    c.Create: _create,
    c.Delete: _one_mailbox(b"DELETE"),
    c.Rename: _rename,
    c.Subscribe: _one_mailbox(b"SUBSCRIBE"),
    c.Unsubscribe: _one_mailbox(b"UNSUBSCRIBE"),
    c.Status: _status,
    c.List: _list,
    c.Lsub: _lsub,
    c.Namespace: _bare(b"NAMESPACE"),
    c.Append: _append,
    c.Idle: _bare(b"IDLE"),
    c.Check: _bare(b"CHECK"),
    c.Close: _bare(b"CLOSE"),
    c.Unselect: _bare(b"UNSELECT"),
    c.Expunge: _expunge,
    c.Search: _search,
    c.Fetch: _fetch,
    c.Store: _store,
    c.Copy: _copy,
    c.Move: _copy,
}
