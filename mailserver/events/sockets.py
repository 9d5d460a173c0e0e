"""Unix sockets in the data directory, by which processes of one installation talk.

What every one of them needs: an address also where the path is too long for the kernel, and
to know whose process is at the other end.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Final

_SUN_PATH: Final = 107  # octets that the kernel takes in a socket's address


def socket_address(path: Path) -> tuple[str, int]:
    """The address of a socket, and the descriptor that must stay open for it, or -1."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        return str(path), -1
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{directory}/{path.name}", directory


def peer_uid(connection: socket.socket) -> int:
    """The user of the process at the other end, as the kernel knows it."""
    size = struct.calcsize("3i")
    octets = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    uid: int = struct.unpack("3i", octets)[1]
    return uid
