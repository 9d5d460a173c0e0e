"""Certificates as files and as ACME clients leave them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from mailserver.service.tls.files import CertificateFault, read_pairs, signature
from tests.service.handshake import Authority, pem, private_pem, write


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


def certbot(authority: Authority, root: Path, name: str, number: int = 1, **more: object) -> Path:
    """`live/NAME` with links into `archive/NAME`, as certbot lays them; gives `live`."""
    archive, live = root / "archive" / name, root / "live" / name
    certificate, key = authority.write_pair(archive, name, [name], **more)
    live.mkdir(parents=True, exist_ok=True)
    for file, as_named in ((certificate, "fullchain"), (key, "privkey")):
        numbered = file.rename(archive / f"{as_named}{number}.pem")
        fresh = live / f".{as_named}"
        fresh.symlink_to(os.path.relpath(numbered, live))
        fresh.replace(live / f"{as_named}.pem")
    write(root / "live" / "README", b"This directory contains your keys and certificates.\n")
    return root / "live"


def lego(authority: Authority, root: Path, *names: str) -> Path:
    for name in names:
        certificate, key = authority.issue(name, [name])
        file = name.replace("*", "_")
        write(root / f"{file}.crt", pem(certificate, authority.certificate))
        write(root / f"{file}.issuer.crt", pem(authority.certificate))
        write(root / f"{file}.key", private_pem(key))
        write(root / f"{file}.json", b"{}")
    return root


def names(*paths: Path, keys: tuple[Path, ...] = ()) -> list[tuple[str, ...]]:
    return [pair.names for pair in read_pairs(paths, keys)]


def test_certbots_directory_is_taken_as_it_lies(authority: Authority, tmp_path: Path) -> None:
    certbot(authority, tmp_path, "a.example.org")
    live = certbot(authority, tmp_path, "b.example.org", end=timedelta(days=60))
    assert names(live) == [("b.example.org",), ("a.example.org",)]  # valid longest first
    assert names(live / "a.example.org") == [("a.example.org",)]
    [pair] = read_pairs([live / "a.example.org"], [])
    assert len(pair.chain) == 2 and pair.key_type == "EC 256"


def test_legos_directory_is_taken_as_it_lies(authority: Authority, tmp_path: Path) -> None:
    directory = lego(authority, tmp_path, "a.example.org", "*.example.net")
    assert set(names(directory)) == {("a.example.org",), ("*.example.net",)}


def test_keys_belong_where_they_fit(authority: Authority, tmp_path: Path) -> None:
    """Whatever the order: the keys tell."""
    files, keys = [], []
    for name in ("a", "b", "c"):
        file, key = authority.write_pair(tmp_path / name, name, [name])
        files.append(file)
        keys.append(key)
    certificate, key_of_d = authority.issue("d", ["d"])
    files.append(write(tmp_path / "d.pem", private_pem(key_of_d) + pem(certificate)))
    assert names(*files, keys=(keys[2], keys[0], keys[1])) == [("a",), ("b",), ("c",), ("d",)]


def test_one_key_may_serve_two_certificates(authority: Authority, tmp_path: Path) -> None:
    """A certificate that was renewed with its key, beside the old one."""
    first, key = authority.issue("a", ["a"])
    second, _ = authority.issue("b", ["b"], key=key)
    files = [write(tmp_path / f"{n}.pem", pem(one)) for n, one in enumerate((first, second))]
    assert names(*files, keys=(write(tmp_path / "k", private_pem(key)),)) == [("a",), ("b",)]


def test_the_common_name_counts_only_without_others(authority: Authority, tmp_path: Path) -> None:
    """RFC 6125 §6.4.4."""
    for common, alternative, found in (
        ("C.example.org", [], ("c.example.org",)),
        ("c.example.org", ["A.example.org"], ("a.example.org",)),
    ):
        certificate, key = authority.issue(common, alternative)
        file = write(tmp_path / "x.pem", pem(certificate) + private_pem(key))
        assert names(file) == [found]


def fault(paths: list[Path], keys: list[Path]) -> CertificateFault:
    with pytest.raises(CertificateFault) as caught:
        read_pairs(paths, keys)
    return caught.value


def test_faults_name_file_and_reason(authority: Authority, tmp_path: Path) -> None:
    file, key = authority.write_pair(tmp_path / "a", "a", ["a"])
    other, other_key = authority.write_pair(tmp_path / "b", "b", ["b"])
    empty = tmp_path / "empty"
    empty.mkdir()
    found = fault([empty], [])
    assert found.file == empty and found.reason.startswith("no fullchain.pem with privkey.pem")
    found = fault([file, other], [key, other_key, write(tmp_path / "k", key.read_bytes())])
    assert found.file == tmp_path / "k" and "belongs to none" in found.reason
    found = fault([file, other], [key])
    assert found.file == other and "no valid PEM private key" in found.reason
    found = fault([file], [other_key])
    assert found.file == other_key and f"to the certificate in {file}" in found.reason
    other_key.replace(tmp_path / "a" / "privkey.pem")
    found = fault([tmp_path / "a"], [])
    assert found.role == "key" and "does not belong" in found.reason
    huge = write(tmp_path / "huge.pem", b"-" * (1 << 20) + b"--")
    assert fault([huge], []).reason == "is larger than 1 MiB"


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root looks everywhere; the server has dropped that."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_was_readable_with_privileges_only(authority: Authority, tmp_path: Path) -> None:
    """certbot's directories are root's alone: a change is seen, told, and ends nothing."""
    live = certbot(authority, tmp_path, "a.example.org")
    before = signature([live, live / "a.example.org"])
    for closed in (live, live / "a.example.org"):
        closed.chmod(0)
        with without_privileges():
            assert signature([live, live / "a.example.org"]) != before
            found = fault([live], [])
            assert (found.file, found.reason) == (live, "Permission denied")
            found = fault([live / "a.example.org"], [])
            assert found.reason == "Permission denied"
        closed.chmod(0o700)
    with without_privileges():
        found = fault([tmp_path / "live" / "a.example.org" / "fullchain.pem"], [])
    assert found.reason == "Permission denied"


def test_changes_are_seen_in_every_form(authority: Authority, tmp_path: Path) -> None:
    """Written in place, replaced, a link that points elsewhere, one more in a directory."""
    live = certbot(authority, tmp_path / "certbot", "a.example.org")
    directory = lego(authority, tmp_path / "lego", "a.example.org")
    single, key = authority.write_pair(tmp_path / "single", "a", ["a"])
    paths = [live, directory, single, key]
    seen = [signature(paths)]
    assert signature(paths) == seen[0]

    def differs() -> bool:
        seen.append(signature(paths))
        return len(set(seen)) == len(seen)

    single.write_bytes(single.read_bytes() + b"\n")
    assert differs()
    fresh = write(tmp_path / "fresh", key.read_bytes())
    fresh.replace(key)
    assert differs()
    certbot(authority, tmp_path / "certbot", "a.example.org", number=2)
    assert differs()
    lego(authority, tmp_path / "lego", "b.example.org")
    assert differs()
    key.unlink()
    assert differs()
