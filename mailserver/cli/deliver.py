"""`mailctl deliver`: takes one message on standard input, for MTAs without LMTP.

The exit code is one of sysexits.h, which MTAs understand: 0 only when the message is
durable for every recipient. Whatever is not the message's or the recipient's own fault is
75, so that the MTA keeps the message and tries again; with several recipients that may
deliver twice, so MTAs should give one at a time. Idling clients of a running server see the
message at once.
"""

from __future__ import annotations

import re
import sys
from typing import BinaryIO, Final

import click

from mailserver.cli.running import run
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import ISpooled
from mailserver.server.connection import escaped
from mailserver.service.installation import Installation
from mailserver.wire.lmtp.trace import delivered_to, return_path

EX_USAGE: Final = 64
EX_TEMPFAIL: Final = 75

_EXIT_CODES: Final = {
    ErrorKind.NONEXISTENT: 67,  # EX_NOUSER
    ErrorKind.INVALID: 67,  # no such address can be ours
    ErrorKind.BAD_MESSAGE: 65,  # EX_DATAERR
    ErrorKind.TOO_BIG: 69,  # EX_UNAVAILABLE: it will not be taken later either
    ErrorKind.NO_PERMISSION: 77,  # EX_NOPERM
}

_PIECE: Final = 65536
_FROM_LINE: Final = re.compile(rb"From +<?([^ <>\r\n]*)>?[^\n]*\n")


class _WrongUse(click.UsageError):
    exit_code = EX_USAGE


class _Deliver(click.Command):
    """Ends with a code of sysexits.h also where click would end with its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _WrongUse(error.format_message(), ctx) from error


@click.command(cls=_Deliver)
@click.option("-f", "--from", "sender", help="Envelope sender; empty for failure notices.")
@click.option(
    "-d", "--to", "recipients", multiple=True, required=True, help="Recipient; may be repeated."
)
@click.pass_context
def deliver(context: click.Context, sender: str | None, recipients: tuple[str, ...]) -> None:
    """Deliver the message on standard input.

    For example in Postfix' master.cf:
    flags=DRX user=mailserver argv=mailctl -c FILE deliver -f ${sender} -d ${recipient}
    """
    try:
        sys.exit(run(context, lambda opened: _deliver(opened, sender, recipients)))
    except SystemExit as ending:
        # A wrong configuration must not bounce anybody's mail.
        code = ending.code if isinstance(ending.code, int) else EX_TEMPFAIL
        sys.exit(code if code == 0 or code in _EXIT_CODES.values() else EX_TEMPFAIL)
    except Exception as error:  # noqa: BLE001 - told, and the MTA keeps the message
        click.echo(f"mailctl: internal error: {error!r}", err=True)
        sys.exit(EX_TEMPFAIL)


async def _deliver(
    installation: Installation, sender: str | None, recipients: tuple[str, ...]
) -> int:
    """Deliver to all; the worst code, in which a temporary failure outweighs all."""
    try:
        from_line, message = await _read(installation, sys.stdin.buffer)
    except MailError as error:
        return _told("", error)
    address = sender if sender is not None else from_line
    try:
        codes = [
            await _deliver_one(installation, message, address, recipient)
            for recipient in recipients
        ]
    finally:
        message.discard()
    return EX_TEMPFAIL if EX_TEMPFAIL in codes else max(codes)


async def _read(installation: Installation, source: BinaryIO) -> tuple[str, ISpooled]:
    """Take the message; a first line in the form of mbox gives the sender."""
    spool = installation.store.spool()
    try:
        piece = source.read(_PIECE)
        found = _FROM_LINE.match(piece)
        if found is not None:
            piece = piece[found.end() :]
        while piece:
            spool.write(piece)
            piece = source.read(_PIECE)
        message = await spool.finish()
    except BaseException:
        spool.discard()
        raise
    return found[1].decode("utf-8", "replace") if found else "", message


async def _deliver_one(
    installation: Installation, message: ISpooled, sender: str, recipient: str
) -> int:
    try:
        to = await installation.accounts.recipient(_bare(recipient))
        prefix = return_path(_bare(sender)) + delivered_to(to.address)
        await installation.store.deliver(to, message, prefix)
    except MailError as error:
        return _told(f"{escaped(recipient)}: ", error)
    return 0


def _told(who: str, error: MailError) -> int:
    click.echo(f"mailctl: {who}{error.text}", err=True)
    return _EXIT_CODES.get(error.kind, EX_TEMPFAIL)


def _bare(address: str) -> str:
    """An address without angle brackets.

    Raises:
        MailError: INVALID for one that would break a header line.
    """
    bare = address.strip().removeprefix("<").removesuffix(">")
    if not bare.isprintable():
        raise MailError(ErrorKind.INVALID, "an address must not hold control characters")
    return bare
