"""The secret of an installation: what must look random to others and stay the same here."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from mailserver.errors import ErrorKind, MailError

SECRET_FILE: Final = "secret"
"""In the data directory; 0600."""

_OCTETS: Final = 32


def installation_secret(data: Path) -> bytes:
    """Read the secret of a data directory, made first where there is none.

    Two processes that make it at once get the same one: it is written aside and linked into
    place, which only the first can do.

    Returns:
        32 octets.

    Raises:
        MailError: CORRUPT for a file of another length; UNAVAILABLE if it cannot be read
            or made.
    """
    file = data / SECRET_FILE
    try:
        try:
            octets = file.read_bytes()
        except FileNotFoundError:
            _make(file)
            octets = file.read_bytes()
    except OSError as error:
        text = f"{file}: {error.strerror}"
        raise MailError(ErrorKind.UNAVAILABLE, text) from error
    if len(octets) != _OCTETS:
        raise MailError(ErrorKind.CORRUPT, f"{file}: not {_OCTETS} octets; remove it")
    return octets


def _make(file: Path) -> None:
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(_OCTETS))
            stream.flush()
            os.fsync(stream.fileno())
        os.link(fresh, file)
    except FileExistsError:
        pass  # another process was first
    finally:
        fresh.unlink()
