"""Octets of a message to its description: envelope, structure, offsets, text.

    describe.describe, describe.prefixed        what the store keeps of a message
    sections.SectionIndex, sections.select_fields, sections.index_header
    text.search_text, text.fold                 SEARCH: one fold for needle and haystack
    newlines.Newlines, newlines.normalised      line ends on arrival
    decode.decode_transfer                      BINARY
    charsets.is_known_charset, charsets.decode
    subjects.base_subject, subjects.casemap     SORT and THREAD
    words.decode_words, headers.parse_addresses, headers.parse_date

Nothing here reads a clock, a file or the network, or recurses; every function is linear
in its input and has its limits as constants in its module.
"""
