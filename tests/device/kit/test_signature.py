"""Signatures: who may sign, until when, who comes after; and that a board with a key never looks away."""

from __future__ import annotations

import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from device.kits import write_keys, write_kit

from edgeser_device.errors import KeyFileError, KitDamaged, KitUntrusted
from edgeser_device.kit import signature
from edgeser_device.kit.kit import read_kit
from edgeser_device.kit.signature import (
    read_private,
    read_public,
    set_trusted,
    sign,
    trust_path,
    trusted_keys,
    write_pair,
)
from edgeser_export.utilities.errors import MissingExtra


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys lab and other, a kit signed with lab's, and one that is not signed."""
    folder = tmp_path_factory.mktemp("keys")
    key = write_keys(folder / "lab")
    write_keys(folder / "other")
    write_kit(folder / "signed", key=key)
    write_kit(folder / "plain")
    return folder


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose settings are empty."""
    monkeypatch.delenv("EDGESER_TRUST", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(signature, "SYSTEM_TRUST", tmp_path / "etc" / "trusted.pub")
    return tmp_path


def test_the_secret_is_its_owners_and_nothing_is_overwritten(tmp_path: Path) -> None:
    public = write_pair(tmp_path / "lab", 30)
    secret = tmp_path / "lab.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert read_private(secret).public.raw == public.raw
    assert read_public(tmp_path / "lab.pub") == public
    assert repr(read_private(secret)) == f"PrivateKey({public.id})"
    with pytest.raises(KeyFileError, match="exists"):
        write_pair(tmp_path / "lab", 30)


def test_the_same_kit_and_key_give_the_same_bytes(place: Path, tmp_path: Path) -> None:
    again = write_kit(tmp_path, key=read_private(place / "lab.key"))
    assert again.path.read_bytes() == (place / "signed" / "test.edgeser").read_bytes()
    assert again.signer == read_public(place / "lab.pub").id


def test_openssl_agrees(place: Path, tmp_path: Path) -> None:
    """What install.sh does on a board that has nothing else yet."""
    if subprocess.run(["openssl", "version"], capture_output=True).returncode:
        pytest.skip("openssl is not installed")
    message, signed = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(b"some bytes")
    signed.write_bytes(sign(read_private(place / "lab.key"), b"some bytes"))
    for key, good in (("lab.pub", True), ("other.pub", False)):
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(place / key), "-rawin"]
        done = subprocess.run([*command, "-in", str(message), "-sigfile", str(signed)], capture_output=True)
        assert (done.returncode == 0) is good


def test_only_the_right_key_opens(place: Path) -> None:
    signed, plain = place / "signed" / "test.edgeser", place / "plain" / "test.edgeser"
    lab, other = read_public(place / "lab.pub"), read_public(place / "other.pub")
    assert read_kit(signed, [lab]).is_signed
    with pytest.raises(KitUntrusted, match="is not signed, and this machine trusts"):
        read_kit(plain, [lab])
    with pytest.raises(KitUntrusted, match=f"signed with key {lab.id}; this machine trusts {other.id}"):
        read_kit(signed, [other])
    with pytest.raises(KitUntrusted):
        read_kit(signed, [lab, other])
    assert read_kit(signed).is_signed
    assert not read_kit(plain).is_signed


def test_a_signature_that_was_taken_off(place: Path, tmp_path: Path) -> None:
    from device.mutants import parts

    from edgeser_device.kit.archive import join

    _, stored = parts((place / "signed" / "test.edgeser").read_bytes())
    path = tmp_path / "stripped.edgeser"
    path.write_bytes(join([part for part in stored if part[0].filename != "manifest.sig"]))
    with pytest.raises(KitDamaged, match="signature was removed"):
        read_kit(path)
    with pytest.raises(KitUntrusted, match="is not signed"):
        read_kit(path, [read_public(place / "lab.pub")])


def test_an_expired_key(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = read_public(place / "lab.pub")
    monkeypatch.setattr(signature, "today", lambda: lab.expires)
    assert read_kit(place / "signed" / "test.edgeser", [lab])
    monkeypatch.setattr(signature, "today", lambda: lab.expires + timedelta(days=1))
    with pytest.raises(KitUntrusted, match="expired on"):
        read_kit(place / "signed" / "test.edgeser", [lab])
    with pytest.raises(KeyFileError, match="expired on"):
        read_private(place / "lab.key")


def test_a_key_that_was_replaced(place: Path, settings: Path) -> None:
    old = read_private(place / "lab.key")
    write_keys(settings / "new", replaced=old)
    set_trusted(place / "lab.pub")
    assert [key.id for key in trusted_keys()] == [old.public.id]
    with pytest.raises(KitUntrusted, match="did not sign it"):
        set_trusted(place / "other.pub")
    new = set_trusted(settings / "new.pub")
    assert new.replaces == old.public.id
    with pytest.raises(KitUntrusted, match=f"signed with key {old.public.id}, which {new.id} has replaced"):
        read_kit(place / "signed" / "test.edgeser", trusted_keys())
    with pytest.raises(KitUntrusted, match="did not sign it"):
        set_trusted(place / "lab.pub")  # nobody goes back


def test_a_replacement_that_was_changed(place: Path, settings: Path) -> None:
    write_keys(settings / "new", replaced=read_private(place / "lab.key"))
    set_trusted(place / "lab.pub")
    path = settings / "new.pub"
    text = path.read_text()
    expires = read_public(path).expires
    path.write_text(text.replace(expires.isoformat(), (expires + timedelta(days=9999)).isoformat()))
    with pytest.raises(KitUntrusted, match="did not sign it"):
        set_trusted(path)


def test_a_key_that_is_set_up_is_never_left_out(place: Path, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trusted_keys() == ()
    set_trusted(place / "lab.pub")
    assert trust_path().is_relative_to(settings / "config")
    assert [key.id for key in trusted_keys(place / "other.pub")] == [
        read_public(place / "lab.pub").id,
        read_public(place / "other.pub").id,
    ]
    trust_path().write_text("torn")
    with pytest.raises(KeyFileError):
        trusted_keys()
    monkeypatch.setenv("EDGESER_TRUST", str(settings / "nowhere.pub"))
    with pytest.raises(KeyFileError, match="cannot be read"):
        trusted_keys()


def test_without_the_package_nothing_is_trusted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra, match="cryptography"):
        read_kit(place / "signed" / "test.edgeser", [read_public(place / "lab.pub")])
    assert read_kit(place / "signed" / "test.edgeser")


@pytest.mark.parametrize(
    "text", ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "\x00" * 100, "é"]
)
def test_what_is_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.pub"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KeyFileError):
        read_public(path)
    with pytest.raises(KeyFileError):
        read_private(path)


def test_a_key_without_an_end_is_no_key(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "bare.pub"
    path.write_text((place / "lab.pub").read_text().split("\n", 2)[2])
    with pytest.raises(KeyFileError, match="until when"):
        read_public(path)


WRITTEN_BEFORE = """Edgeser-Key: 56475aa75463474c
Expires: 9000-01-01
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
"""


def test_a_key_that_was_written_before(tmp_path: Path) -> None:
    """The same bytes as ever: what is on boards and in drawers goes on being read."""
    path = tmp_path / "old.key"
    path.write_text(WRITTEN_BEFORE)
    key = read_private(path)
    assert key.public.raw.hex() == "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    assert key.public.id == "56475aa75463474c"
    assert key.public.to_text() == (
        "Edgeser-Key: 56475aa75463474c\nExpires: 9000-01-01\n-----BEGIN PUBLIC KEY-----\n"
        "MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n-----END PUBLIC KEY-----\n"
    )
    path.write_text(f"# kept by the lab\n\n  {WRITTEN_BEFORE}trailing words")
    assert read_private(path).public == key.public


@pytest.mark.parametrize("kind", ["another algorithm", "with a password", "a public key"])
def test_other_private_keys_are_refused(kind: str, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1()) if kind == "another algorithm" else None
    locked = BestAvailableEncryption(b"secret") if kind == "with a password" else NoEncryption()
    made = (key or ed25519.Ed25519PrivateKey.generate()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    path = tmp_path / "other.key"
    path.write_bytes(b"Expires: 9000-01-01\n" + made)
    with pytest.raises(
        KeyFileError, match="holds no private key of Ed25519" if kind != "a public key" else "not a public key"
    ):
        (read_public if kind == "a public key" else read_private)(path)
