"""The wheels with which a board installs edgeser without a network: found by pip, listed with their hashes.

    wheels = collect("3.11", find_target("rpi4"))
    wheels.files["numpy-2.4.0-cp311-cp311-manylinux_2_28_aarch64.whl"], wheels.requirements

pip chooses the versions for the board's Python and platform. Which packages need others is read from their metadata
here, since pip asks that for the Python and machine on which it runs. edgeser's own wheel is made from the installed
modules, without the recordings of the demonstration, which no board needs.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from hashlib import sha256
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgeser.errors import SettingsError, WheelError
from edgeser.packaging.targets import Target
from edgeser_device.kit.archive import MAX_MEMBER_BYTES, write_archive

PYTHONS = ("3.11", "3.12", "3.13")
"""Versions for which the base installation has wheels on every platform of the table of boards."""
REQUIREMENTS = "requirements.txt"
"""Every wheel with its hash, as ``pip install --require-hashes`` reads it."""
PACKAGES = ("edgeser", "edgeser_export", "edgeser_device")
NOT_FOR_BOARDS = ("demo_data", "__pycache__")
BOARD_EXTRAS = ("trust",)
"""Installed on every board, so that a key can be set up there without a network."""
MOST_ROUNDS = 12
"""Rounds of asking what the packages found so far need; the base installation takes four."""


@dataclass(frozen=True)
class Wheels:
    """The files that go into a kit below ``wheels/``.

    Attributes:
        python: The version they are for.
        platforms: Platform tags that were allowed.
        requirements: Names and versions.
        files: Content by file name, and REQUIREMENTS.
    """

    python: str
    platforms: tuple[str, ...]
    requirements: tuple[str, ...]
    files: Mapping[str, bytes]

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {"python": self.python, "platforms": list(self.platforms), "requirements": list(self.requirements)}


def collect(python: str, target: Target) -> Wheels:
    """Download the wheels of the base installation for a board.

    Args:
        python: "3.11", "3.12" or "3.13".
        target: Names the platform tags and the versions to leave out.

    Raises:
        SettingsError: Another version of Python.
        WheelError: pip finds none for the board, or cannot reach an index.
    """
    if python not in PYTHONS:
        raise SettingsError(f"there are no wheels for Python {python!r}", f"choose one of: {', '.join(PYTHONS)}")
    with tempfile.TemporaryDirectory(prefix="edgeser-wheels-") as name:
        found = _resolve(Path(name), python, target)
    own, data = own_wheel()
    found[own] = data
    for wheel, content in found.items():
        if len(content) > MAX_MEMBER_BYTES:
            raise WheelError(f"{wheel} has {len(content) >> 20} MB", f"at most {MAX_MEMBER_BYTES >> 20} MB fit in")
    pinned = {_pin(wheel): sha256(content).hexdigest() for wheel, content in sorted(found.items())}
    listed = "".join(f"{pin} --hash=sha256:{digest}\n" for pin, digest in pinned.items())
    return Wheels(python, target.platforms, tuple(pinned), {**found, REQUIREMENTS: listed.encode()})


def _resolve(work: Path, python: str, target: Target) -> dict[str, bytes]:
    """The base installation's wheels by name.

    In each round pip chooses a version of every package for all that is asked of it, and the chosen ones say what they
    ask of others, until that changes no more.
    """
    first = requirements_of(metadata.requires("edgeser") or (), python, target, BOARD_EXTRAS)
    asked: Sequence[str] = first
    for number in range(MOST_ROUNDS):
        folder = work / str(number)
        download(folder, python, target.platforms, asked)
        wheels = sorted(folder.glob("*.whl"))
        wanted = {*first, *(line for path in wheels for line in _needs(path, asked, python, target))}
        if wanted == set(asked):
            return {path.name: path.read_bytes() for path in wheels}
        asked = sorted(wanted)
    raise WheelError("the packages' demands on each other have no end", "pack without --wheels")


def _needs(wheel: Path, asked: Iterable[str], python: str, target: Target) -> list[str]:
    """The requirements of a wheel on the board, with the extras that are asked of it."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        headers = BytesParser().parsebytes(archive.read(name), headersonly=True)
    own = canonicalize_name(headers["Name"])
    requests = (Requirement(line) for line in asked)
    extras = {extra for request in requests if canonicalize_name(request.name) == own for extra in request.extras}
    return requirements_of(headers.get_all("Requires-Dist") or (), python, target, extras)


def download(folder: Path, python: str, platforms: Sequence[str], requirements: Sequence[str]) -> None:
    """Let pip fetch wheels for another machine, without what they need.

    Raises:
        WheelError: It finds none, or reaches no index.
    """
    tags = [word for tag in platforms for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python, *tags]
    done = subprocess.run(
        [*command, "--dest", str(folder), *requirements],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"},
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise WheelError(
            f"pip finds no wheels for Python {python} on {platforms[0]}: {lines[-1] if lines else done.returncode}",
            "check the network; or pack without --wheels, and let the board install from an index",
        )


def requirements_of(lines: Iterable[str], python: str, target: Target, extras: Iterable[str] = ()) -> list[str]:
    """The requirements of a package on a board, as pip reads them, without versions that fail there.

    Args:
        lines: Its requirements with their markers, as in its metadata.
        python: The board's version; a package that only some of its patch releases need is among them.
        target: The board.
        extras: Extras of the package that are installed too.
    """
    from packaging.requirements import Requirement

    bad = {name.partition("==")[0]: name.partition("==")[2] for name in target.known_bad}
    machine = target.platforms[0].rpartition("linux_")[2].split("_", 2)[-1]
    wanted = []
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate(place) for place in _environments(python, machine, extras)):
            requirement.marker = None
            if requirement.name in bad:
                requirement.specifier &= f"!={bad[requirement.name]}"
            wanted.append(str(requirement))
    return wanted


def _environments(python: str, machine: str, extras: Iterable[str]) -> list[dict[str, str]]:
    """The board's values for markers: of its first patch release and a late one, without extras and with each."""
    return [
        {
            "implementation_name": "cpython",
            "implementation_version": f"{python}.{patch}",
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{python}.{patch}",
            "python_version": python,
            "sys_platform": "linux",
            "extra": extra,
        }
        for patch in (0, 99)
        for extra in ("", *extras)
    ]


def own_wheel() -> tuple[str, bytes]:
    """Edgeser's own wheel for boards: its name and content, the same bytes for the same sources.

    The form is PEP 427's; the description is that of the installed distribution.
    """
    distribution = metadata.distribution("edgeser")
    name = f"edgeser-{distribution.version}"
    members: dict[str, bytes] = {}
    for package in PACKAGES:
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*")):
            if path.is_file() and not set(NOT_FOR_BOARDS) & set(path.relative_to(root).parts):
                members[f"{package}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    information = f"{name}.dist-info"
    members |= {
        f"{information}/METADATA": (distribution.read_text("METADATA") or "").encode(),
        f"{information}/WHEEL": b"Wheel-Version: 1.0\nGenerator: edgeser\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/entry_points.txt": b"[console_scripts]\nedgeser = edgeser.__main__:main\n",
    }
    members[f"{information}/RECORD"] = _record(members, information)
    return f"{name}-py3-none-any.whl", write_archive(members)


def _record(members: Mapping[str, bytes], information: str) -> bytes:
    lines = []
    for name, content in sorted(members.items()):
        digest = base64.urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return ("\n".join((*lines, f"{information}/RECORD,,")) + "\n").encode()


def _pin(wheel: str) -> str:
    name, version = wheel.split("-")[:2]
    return f"{name.replace('_', '-').lower()}=={version}"
