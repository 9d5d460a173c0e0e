"""Lists `mailserver` among the services that `twistd` and `twist` can start."""

from twisted.application.service import ServiceMaker

mailserver = ServiceMaker(
    "mailserver",
    "mailserver.service.tap",
    "Mail access server: IMAP with IDLE, LMTP delivery",
    "mailserver",
)
