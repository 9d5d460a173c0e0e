"""crypt(3) of the system: the hashes of `/etc/shadow` (SHA512-CRYPT, yescrypt and others).

The library is called as it is (`libcrypt.so.1` of libxcrypt on Debian, `.so.2` on Fedora;
musl has it within the C library), so the methods are those that the system's own logins
know, and the interpreter's lock is free meanwhile: a hash may take a second.
See docs/decisions for what else was looked at.
"""

from __future__ import annotations

import ctypes
import functools
import hmac
from typing import Any

_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2", None)  # None: what the program is linked with

# Octets of `struct crypt_data`: 32,768 in libxcrypt, 131,232 in the C library of old.
_DATA_OCTETS = 1 << 18

_CHECKSALT_USABLE = (0, 3, 4)  # fine, a legacy method, one that is too cheap: they verify


@functools.cache
def _library() -> Any:
    """The library with `crypt_r`; None if the system has none."""
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            library.crypt_r.restype = ctypes.c_char_p
            library.crypt_r.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
        return library
    return None


def is_usable(setting: bytes) -> bool:
    """Say whether the system knows the method of a stored hash.

    Where it cannot tell without computing (no `crypt_checksalt`), it says yes.
    """
    library = _library()
    if library is None:
        return False
    try:
        checksalt = library.crypt_checksalt
    except AttributeError:
        return True
    checksalt.argtypes = (ctypes.c_char_p,)
    return int(checksalt(setting)) in _CHECKSALT_USABLE


def matches(setting: bytes, password: bytes) -> bool:
    """Say whether a password belongs to a stored hash; False if the system does not know
    its method.

    Args:
        setting: as in `/etc/shadow`, such as `$6$salt$hash`.
        password: without NUL, which would end it.
    """
    library = _library()
    if library is None:
        return False
    data = ctypes.create_string_buffer(_DATA_OCTETS)
    made: bytes | None = library.crypt_r(password, setting, data)
    if made is None or made.startswith(b"*"):
        return False
    return hmac.compare_digest(made, setting)
