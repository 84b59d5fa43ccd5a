"""A kit with wheels on 64-bit ARM: the packages that it brings, unpacked here, read it and train from it there."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from arm64.root import install, run
from device.kits import synthetic_set, write_keys, write_run

from edgeser.pack import pack_kit
from edgeser.targets import find_target
from edgeser.wheels import REQUIREMENTS, collect
from edgeser_device.archive import open_archive
from edgeser_device.kit import MANIFEST, WHEELS

pytestmark = [pytest.mark.slow, pytest.mark.system]


def test_a_kit_with_wheels_works_on_a_fresh_board(arm64_root: Path, tmp_path: Path) -> None:
    key = write_keys(tmp_path / "lab")
    work = write_run(tmp_path / "run", synthetic_set(per_class=2, views=2, steps=2, batch=4))
    path = tmp_path / "kit.edgeser"
    pack_kit(work, "rpi4", path, key, collect("3.11", find_target("rpi4")))

    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with open_archive(path, first=MANIFEST) as archive:
        for name in archive.entries:
            if name.startswith(WHEELS):
                (wheels / name.removeprefix(WHEELS)).write_bytes(archive.read(name))
    lines = (wheels / REQUIREMENTS).read_text().splitlines()
    hashes = {line.rpartition(":")[2] for line in lines}
    assert hashes == {sha256(wheel.read_bytes()).hexdigest() for wheel in wheels.glob("*.whl")}
    assert any(line.startswith("cryptography==") for line in lines)
    install(arm64_root, ["--no-index", "--find-links", str(wheels), "-r", str(wheels / REQUIREMENTS)])

    seen = {tmp_path: "/mnt/stick"}
    edgeser = ("python3", "-m", "edgeser")
    shown = run(
        arm64_root,
        *edgeser,
        "inspect",
        "/mnt/stick/kit.edgeser",
        "--verify",
        "/mnt/stick/lab.pub",
        "--json",
        binds=seen,
    )
    assert json.loads(shown.stdout)["signature"] == {"signed": True, "verified": True}
    found = run(
        arm64_root, *edgeser, "train-on-device", "/mnt/stick/kit.edgeser", "--out", "/mnt/stick/model", "--json",
        "--trust", "/mnt/stick/lab.pub", binds=seen,
    )  # fmt: skip
    assert json.loads(found.stdout)["steps"] == 2
    assert (tmp_path / "model" / "student.tflite").is_file()
