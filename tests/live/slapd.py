"""OpenLDAP's slapd with data of its own, on loopback ports of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from pathlib import Path

import attrs

from tests.requires import require_module, require_program

BASE = "dc=example,dc=org"
SERVICE_DN, SERVICE_PASSWORD = f"cn=mail,{BASE}", "canary-service"
PASSWORD = "canary-ldap"

_CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include {folder}/sun.schema
moduleload back_mdb
pidfile {folder}/slapd.pid
{tls}
database mdb
suffix "{base}"
rootdn "cn=admin,{base}"
rootpw admin
directory {folder}/data
access to attrs=userPassword by dn.exact="{service}" read by anonymous auth by self auth
access to * by dn.exact="{service}" read by * none
"""

_TLS = """\
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
"""

# The Sun server's attributes as far as they are used here, under numbers for documentation
# (RFC 5612).
_SCHEMA = "".join(
    f"attributetype ( 1.3.6.1.4.1.32473.1.{number} NAME '{name}'"
    " EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )\n"
    for number, name in enumerate(
        (
            "mailHost",
            "mailQuota",
            "mailMsgQuota",
            "mailAllowedServiceAccess",
            "mailAlternateAddress",
            "mailUserStatus",
        )
    )
) + (
    "objectclass ( 1.3.6.1.4.1.32473.2.1 NAME 'inetMailUser' SUP top AUXILIARY MAY"
    " ( mailHost $ mailQuota $ mailMsgQuota $ mailAllowedServiceAccess"
    " $ mailAlternateAddress $ mailUserStatus ) )\n"
)

_TOP = f"""\
dn: {BASE}
objectClass: organization
objectClass: dcObject
o: Example
dc: example

dn: {SERVICE_DN}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: mail
userPassword: {SERVICE_PASSWORD}
"""


def person(uid: str, mail: str | None = None, password: str = PASSWORD, **values: str) -> str:
    """An entry as LDIF; each value may hold several lines."""
    lines = [
        f"dn: uid={uid},{BASE}",
        *(f"objectClass: {name}" for name in ("inetOrgPerson", "inetMailUser")),
        f"uid: {uid}",
        f"cn: {uid} of LDAP",
        f"sn: {uid}",
        f"mail: {mail or f'{uid}@example.org'}",
        f"userPassword: {password}",
    ]
    lines += [f"{name}: {text}" for name, value in values.items() for text in value.splitlines()]
    return "\n".join(lines) + "\n"


@attrs.define
class Slapd:
    """A server that can be killed and started again on the same data and ports."""

    folder: Path
    port: int
    tls_port: int
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(
        cls, folder: Path, *people: str, certificate: Path | None = None, key: Path | None = None
    ) -> Slapd:
        """Make the data with these entries, and start."""
        require_module("ldap")
        slapadd = require_program("slapadd", "/usr/sbin/slapadd")
        (folder / "data").mkdir()
        (folder / "sun.schema").write_text(_SCHEMA)
        tls = "" if certificate is None else _TLS.format(certificate=certificate, key=key)
        (folder / "slapd.conf").write_text(
            _CONFIG.format(folder=folder, base=BASE, service=SERVICE_DN, tls=tls)
        )
        (folder / "people.ldif").write_text("\n".join((_TOP, *people)))
        subprocess.run(
            [slapadd, "-f", folder / "slapd.conf", "-l", folder / "people.ldif"],
            check=True,
            capture_output=True,
        )
        self = cls(folder, _free_port(), _free_port() if certificate else 0)
        self.start()
        return self

    @property
    def uri(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_uri(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def start(self) -> None:
        """Start and wait until it answers."""
        slapd = require_program("slapd", "/usr/sbin/slapd")
        addresses = self.uri + (f" ldaps://127.0.0.1:{self.tls_port}" if self.tls_port else "")
        with (self.folder / "slapd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [slapd, "-d", "0", "-h", addresses, "-f", self.folder / "slapd.conf"],
                stdout=log,
                stderr=log,
            )
        pause = threading.Event()
        for _ in range(1000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "slapd.log").read_text()
            pause.wait(0.01)
        raise AssertionError("slapd does not answer")

    def modify(self, uid: str, *lines: str) -> None:
        """Change an entry by lines of LDIF."""
        ldapmodify = require_program("ldapmodify")
        subprocess.run(
            [ldapmodify, "-x", "-H", self.uri, "-D", f"cn=admin,{BASE}", "-w", "admin"],
            input="\n".join((f"dn: uid={uid},{BASE}", *lines, "")),
            text=True,
            check=True,
            capture_output=True,
        )

    def freeze(self) -> None:
        """Have it answer nothing until it is thawed; waits until it has stopped."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        state = Path(f"/proc/{self.process.pid}/stat")
        pause = threading.Event()
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            pause.wait(0.01)

    def thaw(self) -> None:
        """Let it go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
