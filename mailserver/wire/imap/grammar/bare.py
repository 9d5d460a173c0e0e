"""Commands without arguments, and what a parser is."""

from __future__ import annotations

from collections.abc import Callable

from mailserver.wire.imap import commands
from mailserver.wire.imap.scanner import Scanner

Parser = Callable[[Scanner], commands.Command]


def parse_capability(scanner: Scanner) -> commands.Capability:
    """Read CAPABILITY (RFC 3501 §6.1.1)."""
    scanner.end()
    return commands.Capability()


def parse_noop(scanner: Scanner) -> commands.Noop:
    """Read NOOP (RFC 3501 §6.1.2)."""
    scanner.end()
    return commands.Noop()


def parse_logout(scanner: Scanner) -> commands.Logout:
    """Read LOGOUT (RFC 3501 §6.1.3)."""
    scanner.end()
    return commands.Logout()


def parse_starttls(scanner: Scanner) -> commands.StartTls:
    """Read STARTTLS (RFC 3501 §6.2.1)."""
    scanner.end()
    return commands.StartTls()


def parse_namespace(scanner: Scanner) -> commands.Namespace:
    """Read NAMESPACE (RFC 2342 §5)."""
    scanner.end()
    return commands.Namespace()


def parse_idle(scanner: Scanner) -> commands.Idle:
    """Read IDLE (RFC 2177 §3)."""
    scanner.end()
    return commands.Idle()


def parse_check(scanner: Scanner) -> commands.Check:
    """Read CHECK (RFC 3501 §6.4.1)."""
    scanner.end()
    return commands.Check()


def parse_close(scanner: Scanner) -> commands.Close:
    """Read CLOSE (RFC 3501 §6.4.2)."""
    scanner.end()
    return commands.Close()


def parse_unselect(scanner: Scanner) -> commands.Unselect:
    """Read UNSELECT (RFC 3691 §2)."""
    scanner.end()
    return commands.Unselect()
