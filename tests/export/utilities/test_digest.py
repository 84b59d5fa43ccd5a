"""Python's own SHA-256 is OpenSSL's."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from edgeser_export.utilities.files import sha256


@pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * 1000])
def test_it_is_the_same(data: bytes) -> None:
    assert sha256(data).hexdigest() == hashlib.sha256(data).hexdigest()


def test_openssl_is_not_loaded() -> None:
    program = "import sys, edgeser_device.bench.bench_child; print('hashlib' in sys.modules, 'argparse' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
