"""Kits that were damaged or forged, by the hundred here and by the ten thousand with ``--all``: none gets through."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from device import fuzz_kits, mutants
from device.kits import write_keys, write_kit

from edgeser_device.kit.signature import read_public

PROGRAM = Path(mutants.__file__)
KINDS = [change.__name__ for change in (*mutants.ACCIDENTS, *mutants.ATTACKS)]
GROWTH = 64
"""MB. A reader of a kit of 0.1 MB needs a few; the rest is what allocators keep."""


@pytest.fixture(scope="module")
def signed_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    return write_kit(folder, key=write_keys(folder / "lab")).path


def outcomes(kit: Path, folder: Path, count: int, seed: int) -> dict[str, Any]:
    """What became of ``count`` mutants, read by one that trusts a key and by one that has none."""
    copy = folder / "kit.edgeser"
    copy.write_bytes(kit.read_bytes())
    command = [sys.executable, str(PROGRAM), str(copy), str(kit.with_name("lab.pub")), str(count), str(seed)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["kit.edgeser", "mutant.edgeser"]
    return json.loads(done.stdout)


def check(found: dict[str, Any]) -> None:
    for kind in KINDS:
        trusting = found["outcomes"][f"trusting {kind}"]
        assert trusting.get("accepted", 0) == 0, (kind, trusting)
        assert sum(trusting.values()) > 0, kind
        assert "nothing is said" not in trusting, kind
        if kind in [change.__name__ for change in mutants.ACCIDENTS]:
            anybody = found["outcomes"][f"anybody {kind}"]
            assert anybody.get("accepted", 0) == 0, (kind, anybody)
    assert found["grown_mb"] < GROWTH


def test_no_mutant_of_some_hundred_is_accepted(signed_kit: Path, tmp_path: Path) -> None:
    check(outcomes(signed_kit, tmp_path, 400, seed=1))


@pytest.mark.slow
def test_no_mutant_of_ten_thousand_is_accepted(signed_kit: Path, tmp_path: Path) -> None:
    check(outcomes(signed_kit, tmp_path, 10_000, seed=2))


def test_without_a_key_forgeries_that_fit_are_read_and_others_refused(signed_kit: Path, tmp_path: Path) -> None:
    """A kit without a signature says nothing of who made it: only a key tells."""
    found = outcomes(signed_kit, tmp_path, 400, seed=3)["outcomes"]
    forged = found["anybody other_content"]
    assert forged.get("accepted", 0) > 0
    assert sum(forged.values()) > forged["accepted"]


def test_the_fuzzer_begins_with_the_kit_and_sees_what_is_wrong(tmp_path: Path) -> None:
    """The part of scripts/fuzz_kits that needs no atheris."""
    (tmp_path / "corpus").mkdir()
    fuzz_kits.prepare(tmp_path, tmp_path / "corpus")
    original = (tmp_path / fuzz_kits.KIT).read_bytes()
    forge = fuzz_kits.forger(original)
    keys = (read_public(tmp_path / fuzz_kits.KEY),)
    firsts = sorted((tmp_path / "corpus").iterdir())
    assert len(firsts) > 10
    with (tmp_path / "mutant.edgeser").open("w+b") as place:
        for first in firsts:
            given = first.read_bytes()
            assert forge(given) == original
            for changed in (given, given[:-1], given + b"x", given[:1]):
                fuzz_kits.read(changed, forge, original, place, keys)
        fuzz_kits.read(b"", forge, original, place, keys)
        with pytest.raises(fuzz_kits.Found, match="nobody signed"):
            fuzz_kits.read(b"\0" + original, forge, b"another", place, keys)
        with pytest.raises(fuzz_kits.Found, match="changed file"):
            fuzz_kits.read(b"\0" + original, forge, b"another", place, ())


def test_the_program_is_stopped_when_it_writes(tmp_path: Path) -> None:
    program = (
        "import sys; sys.addaudithook(__import__('device.mutants').mutants.forbid_everything);"
        f"open({str(tmp_path / 'x')!r}, 'w')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROGRAM.parent.parent, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 99, done.stderr
    assert not (tmp_path / "x").exists()
