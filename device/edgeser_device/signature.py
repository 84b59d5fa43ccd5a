"""Signatures of kits: Ed25519 (RFC 8032), keys as PEM files that OpenSSL reads too.

    private, public = new_key(valid_days=730)           # two texts, for NAME.key and NAME.pub
    signature = sign(read_private(path), manifest)
    require_signature(read_public(path), manifest, signature)

A public key's file states above its PEM block until when it is to be trusted, and which key it replaces, with that
key's signature under the replacement. Only signing and verifying need the package ``cryptography`` (extra ``trust``);
without it a machine that has a key refuses every kit.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from edgeser_device.errors import KeyFileError, KitUntrusted
from edgeser_export.digest import sha256
from edgeser_export.errors import MissingExtra
from edgeser_export.files import write_bytes

ALGORITHM = "ed25519"
SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 16_384
_PUBLIC_PREFIX = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of Ed25519, RFC 8410
_PRIVATE_PREFIX = bytes.fromhex("302e020100300506032b657004220420")  # PrivateKeyInfo of Ed25519, RFC 8410
_PURPOSE = b"edgeser: this key replaces mine\n"
SYSTEM_TRUST = Path("/etc/edgeser/trusted.pub")
VARIABLE = "EDGESER_TRUST"


@dataclass(frozen=True)
class PublicKey:
    """What kits are verified with.

    Attributes:
        raw: The key, 32 bytes.
        expires: The last day on which it is to be trusted, by this machine's clock.
        replaces: Id of the key that it replaces, or "".
        endorsement: That key's signature under the replacement, 64 bytes, or nothing.
    """

    raw: bytes
    expires: date
    replaces: str = ""
    endorsement: bytes = b""

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of the key's SHA-256."""
        return sha256(self.raw).hexdigest()[:16]

    def to_text(self) -> str:
        """The content of its file."""
        lines = [f"Edgeser-Key: {self.id}", f"Expires: {self.expires.isoformat()}"]
        if self.replaces:
            lines += [f"Replaces: {self.replaces}", f"Endorsement: {base64.b64encode(self.endorsement).decode()}"]
        return "\n".join((*lines, _pem("PUBLIC KEY", _PUBLIC_PREFIX + self.raw)))


@dataclass(frozen=True)
class PrivateKey:
    """What kits are signed with; never leaves the host.

    Attributes:
        seed: The secret, 32 bytes.
        public: What others verify with.
    """

    seed: bytes
    public: PublicKey

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.id})"


def new_key(valid_days: int, replaced: PrivateKey | None = None) -> tuple[str, str]:
    """A new pair of keys as the texts of their files: private, public.

    Args:
        valid_days: Days until it expires.
        replaced: The key that the new one replaces; it signs the replacement.
    """
    expires = today() + timedelta(days=valid_days)
    seed = os.urandom(32)
    public = PublicKey(_private(seed).public_key().public_bytes_raw(), expires)
    if replaced is not None:
        endorsement = _private(replaced.seed).sign(_endorsed(public, replaced.public.id))
        public = PublicKey(public.raw, expires, replaced.public.id, endorsement)
    head = f"Edgeser-Key: {public.id}\nExpires: {expires.isoformat()}\n"
    return head + _pem("PRIVATE KEY", _PRIVATE_PREFIX + seed), public.to_text()


def read_public(path: Path) -> PublicKey:
    """A public key from its file.

    Raises:
        KeyFileError: Missing, or not such a file.
    """
    head, body = _read_pem(path, "PUBLIC KEY", _PUBLIC_PREFIX)
    try:
        endorsement = base64.b64decode(head.get("Endorsement", ""), validate=True)
        return PublicKey(body, date.fromisoformat(head["Expires"]), head.get("Replaces", ""), endorsement)
    except (KeyError, ValueError) as error:
        raise KeyFileError(
            f"{path} does not state until when the key is to be trusted", "make keys with edgeser keygen"
        ) from error


def read_private(path: Path) -> PrivateKey:
    """A private key from its file.

    Raises:
        KeyFileError: Missing, not such a file, or expired.
        MissingExtra: ``cryptography`` is not installed.
    """
    head, seed = _read_pem(path, "PRIVATE KEY", _PRIVATE_PREFIX)
    try:
        expires = date.fromisoformat(head["Expires"])
    except (KeyError, ValueError) as error:
        raise KeyFileError(f"{path} does not state when the key expires", "make keys with edgeser keygen") from error
    public = PublicKey(_private(seed).public_key().public_bytes_raw(), expires)
    if public.expires < today():
        raise KeyFileError(
            f"the key {public.id} in {path} expired on {public.expires}", f"edgeser keygen NEW --replaces {path}"
        )
    return PrivateKey(seed, public)


def sign(key: PrivateKey, message: bytes) -> bytes:
    """The signature, 64 bytes; the same for the same key and message."""
    signature: bytes = _private(key.seed).sign(message)
    return signature


def require_signature(key: PublicKey, message: bytes, signature: bytes | None) -> None:
    """Check that ``message`` was signed with ``key``.

    Raises:
        KitUntrusted: No signature, one of another key, or the key has expired.
        MissingExtra: ``cryptography`` is not installed.
    """
    if key.expires < today():
        raise KitUntrusted(
            f"the trusted key {key.id} expired on {key.expires}",
            "check this machine's clock (date); then: edgeser device trust NEW.pub",
        )
    if signature is None:
        raise KitUntrusted(
            f"the kit is not signed, and this machine trusts key {key.id} only", "edgeser pack --sign KEY"
        )
    if not _verifies(key.raw, signature, message):
        raise KitUntrusted(_other_key(key, message), "get the kit from someone who has that key; do not use this one")


def require_successor(trusted: PublicKey, new: PublicKey) -> None:
    """Check that ``new`` may take the place of ``trusted``.

    Raises:
        KitUntrusted: ``trusted`` did not sign the replacement.
    """
    if new.raw == trusted.raw:
        return
    good = new.replaces == trusted.id and _verifies(trusted.raw, new.endorsement, _endorsed(new, trusted.id))
    if not good:
        raise KitUntrusted(
            f"key {new.id} does not replace the trusted key {trusted.id}: that key did not sign it",
            "edgeser keygen NEW --replaces OLD.key on the host; or remove the trusted key by hand",
        )


def require_verification() -> None:
    """Check that signatures can be verified here.

    Raises:
        MissingExtra: ``cryptography`` is not installed.
    """
    _verifies(bytes(32), bytes(SIGNATURE_BYTES), b"")


def trust_path() -> Path:
    """Where this machine's trusted key lies, or would lie."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgeser" / "trusted.pub"
    return SYSTEM_TRUST if SYSTEM_TRUST.exists() and not own.exists() else own


def trusted_keys(asked: Path | None = None) -> tuple[PublicKey, ...]:
    """The keys with each of which a kit must be signed: the one asked for, and those that this machine is set up with.

    Raises:
        KeyFileError: One of them cannot be read; a key that is set up is never left out.
    """
    path = trust_path()
    configured = {path} if os.environ.get(VARIABLE) or path.exists() else set()
    configured |= {SYSTEM_TRUST} if SYSTEM_TRUST.exists() else set()
    found = {key.raw: key for key in (read_public(each) for each in sorted(configured))}
    if asked is not None:
        key = read_public(asked)
        found[key.raw] = key
    return tuple(found.values())


def set_trusted(new: Path) -> PublicKey:
    """Set this machine up with a key: the first one as it is, a later one only if the present one signed it.

    Raises:
        KitUntrusted: The present key did not sign the new one; or the new one has expired.
        KeyFileError: A file cannot be read.
        StorageError: The place cannot be written.
    """
    key, path = read_public(new), trust_path()
    if key.expires < today():
        raise KitUntrusted(f"the key {key.id} expired on {key.expires}", "make another: edgeser keygen NEW")
    if path.exists():
        require_successor(read_public(path), key)
    write_bytes(path, key.to_text().encode())
    return key


def today() -> date:
    """The day by this machine's clock, in UTC."""
    return datetime.now(UTC).date()


def _other_key(key: PublicKey, message: bytes) -> str:
    found = re.search(rb'"signer": \{\s*"algorithm": "ed25519",\s*"key": "([0-9a-f]{16})"', message)
    signer = found[1].decode() if found else "unknown"
    if signer == key.id:
        return f"the kit says that key {key.id} signed it, and that is not so"
    replaced = f", which {key.id} has replaced" if key.replaces == signer else ""
    return f"the kit is signed with key {signer}{replaced}; this machine trusts {key.id}"


def _endorsed(new: PublicKey, old: str) -> bytes:
    return _PURPOSE + f"{old} {new.expires.isoformat()} ".encode() + new.raw


def _private(seed: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingExtra("cryptography", "trust") from error
    return Ed25519PrivateKey.from_private_bytes(seed)


def _verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingExtra("cryptography", "trust") from error
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _pem(kind: str, content: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{base64.b64encode(content).decode()}\n-----END {kind}-----\n"


def _read_pem(path: Path, kind: str, prefix: bytes) -> tuple[Mapping[str, str], bytes]:
    hint = "make keys with edgeser keygen"
    try:
        with path.open("rb") as file:
            text = file.read(MAX_KEY_BYTES).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise KeyFileError(f"the key {path} cannot be read: {reason}", hint) from error
    for other, ending in (("PRIVATE KEY", ".pub"), ("PUBLIC KEY", ".key")):
        if other != kind and f"-----BEGIN {other}-----" in text:
            raise KeyFileError(f"{path} is a {other.lower()}, not a {kind.lower()}", f"give {path.with_suffix(ending)}")
    found = re.search(rf"-----BEGIN {kind}-----([A-Za-z0-9+/=\s]+)-----END {kind}-----", text)
    try:
        content = base64.b64decode("".join(found[1].split()) if found else "", validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content.startswith(prefix) or len(content) != len(prefix) + 32:
        raise KeyFileError(f"{path} holds no {kind.lower()} of Ed25519", hint)
    lines = (line.partition(":") for line in text[: found.start() if found else 0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}, content[len(prefix) :]
