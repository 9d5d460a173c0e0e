"""What both servers are asked about a message, and their answers as values that compare.

What a server may write in either case is made lower case here: names of types, encodings,
parameters and dispositions, language tags (RFC 2045 §5.1, §6.1, RFC 2183 §2). Everything
else is compared as it came.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from mailserver.wire.imap import responses as r
from mailserver.wire.imap.commands import BodySection, FetchAtt
from tests.differential.client import Client

DESCRIPTIONS = (b"ENVELOPE", b"BODYSTRUCTURE", b"BODY", b"RFC822.SIZE")
FIELDS = b"(SUBJECT from X-Nothing Content-Type RECEIVED)"

Answers = dict[str, object]
"""What was asked, as it is asked -> the value of the answer."""


def ask(client: Client, number: int, items: list[bytes]) -> Answers:
    """Ask for items of a message; what was not answered is not among the answers."""
    found = client.fetch(number, items)
    return dict(_named(datum) for datum in found if not isinstance(datum, r.FlagsItem))


def sections(structure: r.BodyStructure) -> list[bytes]:
    """Everything that can be asked for by section, of the message and of each part."""
    asked = [b"RFC822.HEADER", b"RFC822.TEXT", b"RFC822"]
    names = [b"", b"HEADER", b"TEXT", *_fields(b"")]
    for path, part in parts_of(structure):
        dotted = b".".join(b"%d" % number for number in path)
        names += [dotted, dotted + b".MIME"]
        if isinstance(part, r.SinglePart) and part.body is not None:
            prefix = dotted + b"."
            names += [prefix + b"HEADER", prefix + b"TEXT", *_fields(prefix)]
    asked += [b"BODY.PEEK[%b]" % name for name in names]
    # Origins differ, because a response names nothing else of a partial.
    asked += [b"BODY.PEEK[%b]<%b>" % (name, cut) for name in names for cut in _CUTS]
    return asked


_CUTS = (b"0.20", b"7.100", b"1000000.5")


def _fields(prefix: bytes) -> list[bytes]:
    return [prefix + b"HEADER.FIELDS " + FIELDS, prefix + b"HEADER.FIELDS.NOT " + FIELDS]


def parts_of(
    structure: r.BodyStructure, path: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], r.BodyStructure]]:
    """Every part with its numbers (RFC 3501 §6.4.5)."""
    if isinstance(structure, r.MultiPart):
        for number, part in enumerate(structure.parts, 1):
            yield (*path, number), part
            if isinstance(part, r.MultiPart):
                yield from parts_of(part, (*path, number))
            elif part.body is not None:
                yield from _within(part, (*path, number))
        return
    if not path:
        path = (1,)
        yield path, structure
        yield from _within(structure, path)


def _within(
    part: r.SinglePart, path: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], r.BodyStructure]]:
    if isinstance(part.body, r.MultiPart):
        yield from parts_of(part.body, path)
    elif part.body is not None:
        yield (*path, 1), part.body
        yield from _within(part.body, (*path, 1))


# -- answers that compare ------------------------------------------------------------------


def _named(datum: r.FetchDatum) -> tuple[str, object]:
    match datum:
        case r.EnvelopeItem(envelope):
            return "ENVELOPE", envelope
        case r.StructureItem(att, structure):
            return ("BODY" if att is FetchAtt.BODY else "BODYSTRUCTURE"), lowered(structure)
        case r.SizeItem(size):
            return "RFC822.SIZE", size
        case r.SectionItem(BodySection() as section, octets):
            return _section_name(section), octets
    raise AssertionError(f"not asked for: {datum}")


def _section_name(section: BodySection) -> str:
    if section.old_name:
        return section.old_name.decode()
    words = [*map(str, section.path)]
    if section.text.value:
        words.append(section.text.value.decode())
    cut = f"<{section.partial[0]}>" if section.partial else ""
    return f"BODY[{'.'.join(words)}]{cut}"


def lowered(structure: r.BodyStructure) -> r.BodyStructure:
    """A structure with everything in lower case that has no case."""
    extension = structure.extension and attrs.evolve(
        structure.extension,
        languages=tuple(tag.lower() for tag in structure.extension.languages),
        disposition=structure.extension.disposition
        and attrs.evolve(
            structure.extension.disposition,
            kind=structure.extension.disposition.kind.lower(),
            parameters=_lowered(structure.extension.disposition.parameters),
        ),
    )
    if isinstance(structure, r.MultiPart):
        return attrs.evolve(
            structure,
            parts=tuple(lowered(part) for part in structure.parts),
            subtype=structure.subtype.lower(),
            parameters=_lowered(structure.parameters),
            extension=extension,
        )
    return attrs.evolve(
        structure,
        media_type=structure.media_type.lower(),
        subtype=structure.subtype.lower(),
        parameters=_lowered(structure.parameters),
        encoding=structure.encoding.lower(),
        body=structure.body and lowered(structure.body),
        extension=extension,
    )


def _lowered(parameters: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower(), value) for name, value in parameters)
