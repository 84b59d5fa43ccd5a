"""Carrying a kit to a board with OpenSSH's own programs: copy, verify, install, train, measure, listen.

    with prepare(kit, Board("pi@raspberrypi.local"), wheel=None, trust=None, service=False) as deployment:
        commands(deployment)                 # every command line, in order; what --dry-run prints
        result = run(deployment, say)        # the same, without what is there already

All goes over one connection. A file is copied as NAME.part and goes on where an earlier copy stopped; it gets its name
when its hash is right. What the board does is ``install.sh``, which is safe to run again.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgeser.encoders.store import encoder_folder, find_card
from edgeser.errors import DeployError
from edgeser.packaging.wheels import own_wheel
from edgeser_device.kit.kit import ENCODER, INSTALL, Kit

INBOX = "inbox"
LEAST_PYTHON = (3, 11)
LEAST_FREE_MB = 700
"""Packages unpacked, a second set of them during an update, and the kit."""
BENCH_REPEAT = 50
PROBE = """\
import hashlib, json, os, platform, shutil, subprocess, sys
folder = sys.argv[1]
inbox = os.path.join(folder, "inbox")
there = {}
for name in sorted(os.listdir(inbox)) if os.path.isdir(inbox) else ():
    with open(os.path.join(inbox, name), "rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
        there[name] = [file.tell(), digest.hexdigest()]
place = os.path.abspath(folder)
while not os.path.isdir(place):
    place = os.path.dirname(place)
try:
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    systemd = subprocess.call(["systemctl", "show", "--property=Version"], **quiet) == 0
except OSError:
    systemd = False
found = {"python": list(sys.version_info[:3]), "machine": platform.machine(), "bits": 64 if sys.maxsize > 2**32 else 32}
print(json.dumps({**found, "free_mb": shutil.disk_usage(place).free >> 20, "there": there,
    "systemd": systemd, "installed": os.path.isdir(os.path.join(folder, "software"))}))
"""
"""Run by the board's Python; only what every version understands since 3.8."""


@dataclass(frozen=True)
class Board:
    """The board that a kit is carried to.

    Attributes:
        address: USER@HOST, or a name of ssh's configuration.
        port: Port of its ssh server; None for the usual one.
        folder: The installation there, absolute or below the user's home.
        config: A configuration file of ssh instead of the user's.
    """

    address: str
    port: int | None = None
    folder: str = "edgeser"
    config: Path | None = None


@dataclass(frozen=True)
class Parcel:
    """A file for the board.

    Attributes:
        path: Here.
        name: Its name in the inbox there.
        bytes: Its size.
        sha256: Its hash.
    """

    path: Path
    name: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, name: str | None = None) -> Parcel:
        """A file as it is now."""
        data = path.read_bytes()
        return cls(path, name or path.name, len(data), sha256(data).hexdigest())


@dataclass(frozen=True)
class Deployment:
    """Everything that is needed to carry a kit to a board.

    Attributes:
        board: The board that the kit is carried to.
        kit: The kit that is carried.
        parcels: Files to copy.
        options: Options of ssh and sftp, the shared connection among them.
        trust: Name of the key in the inbox, or None.
        service: Whether to start listening at the end.
    """

    board: Board
    kit: Kit
    parcels: tuple[Parcel, ...]
    options: tuple[str, ...]
    trust: str | None
    service: bool = False

    def there(self, name: str) -> str:
        """The path of a file in the inbox, quoted for the board's shell."""
        return shlex.quote(f"{self.board.folder}/{INBOX}/{name}")

    def ssh(self, command: str) -> list[str]:
        """A command line that runs ``command`` in the board's shell."""
        return ["ssh", *self.options, "--", self.board.address, command]

    def sftp(self) -> list[str]:
        """A command line that takes sftp's commands from its standard input."""
        return ["sftp", "-q", "-b", "-", *self.options, self.board.address]

    @property
    def parts(self) -> Mapping[str, str]:
        """The board's part of the work, by name, in order."""
        folder = self.board.folder
        program = shlex.quote(f"{folder}/current/software/bin/edgeser")
        flags = [f"--trust {self.there(self.trust)}"] if self.trust else []
        kit = self.there(self.parcels[0].name)
        listening = f"{program} device service --folder {shlex.quote(folder)} --json"
        return {
            "install": " ".join(["sh", self.there(INSTALL), *flags, kit, shlex.quote(folder)]),
            "bench": f"{program} bench {shlex.quote(f'{folder}/current/model')} --repeat {BENCH_REPEAT} --json",
            "status": f"{program} device status --folder {shlex.quote(folder)} --json",
            **({"service": listening} if self.service else {}),
        }


@contextmanager
def prepare(
    kit: Kit, board: Board, wheel: Path | None = None, trust: Path | None = None, service: bool = False
) -> Iterator[Deployment]:
    """Gather the files for a board; the connection is closed at the end.

    Args:
        kit: The kit to carry, which was read and checked.
        board: The board that the kit is carried to.
        wheel: edgeser's own wheel; None for one of this installation. Not copied where the kit has wheels.
        trust: A public key that the board is to be set up with.
        service: Whether to start listening there, now and with the board.

    Raises:
        DeployError: ssh or sftp is not installed, or a file cannot be read.
        EncoderError: The kit does not bring its encoder, and this machine has none to send along.
    """
    for program in ("ssh", "sftp"):
        if shutil.which(program) is None:
            raise DeployError(f"{program} is not installed here", "sudo apt install openssh-client")
    # /tmp, not TMPDIR: a socket's path has at most some hundred characters.
    with tempfile.TemporaryDirectory(prefix="edgeser-", dir="/tmp") as name:
        work = Path(name)
        parcels = [Parcel(kit.path, "kit.edgeser", kit.path.stat().st_size, kit.sha256)]
        script = work / INSTALL
        script.write_bytes(files("edgeser_device").joinpath(INSTALL).read_bytes())
        parcels.append(Parcel.of(script))
        try:
            if kit.encoder is not None and ENCODER not in kit.manifest["members"]:
                card = find_card(f"{kit.encoder.name}@{kit.encoder.sha256}")
                parcels.append(Parcel.of(encoder_folder(card.name) / ENCODER))
            if "wheels" not in kit.manifest:
                if wheel is None:
                    own, data = own_wheel()
                    wheel = work / own
                    wheel.write_bytes(data)
                parcels.append(Parcel.of(wheel))
            if trust is not None:
                parcels.append(Parcel.of(trust, "trusted.pub"))
        except OSError as error:
            raise DeployError(f"{error.filename} cannot be read: {error.strerror}", "check the path") from error
        shared = ("ControlMaster=auto", f"ControlPath={work}/connection", "ControlPersist=60", "ServerAliveInterval=15")
        options = [word for option in shared for word in ("-o", option)]
        options += ["-o", f"Port={board.port}"] if board.port else []
        options += ["-F", str(board.config)] if board.config else []
        deployment = Deployment(
            board, kit, tuple(parcels), tuple(options), "trusted.pub" if trust is not None else None, service
        )
        try:
            yield deployment
        finally:
            if (work / "connection").exists():
                close = ["ssh", "-O", "exit", *options, "--", board.address]
                subprocess.run(close, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)


def commands(deployment: Deployment) -> list[str]:
    """Every command line in order, as if nothing were there yet; for reading, and for a shell."""
    lines = [shlex.join(deployment.ssh(_probe(deployment))) + " <<'END'\n" + PROBE + "END"]
    lines.append(shlex.join(deployment.ssh(_make_inbox(deployment))))
    for parcel in deployment.parcels:
        batch = _batch(deployment, parcel, resume=False)
        lines.append(f"{shlex.join(deployment.sftp())} <<'END'\n{batch}END")
        lines.append(shlex.join(deployment.ssh(_accept(deployment, parcel))))
    return lines + [shlex.join(deployment.ssh(part)) for part in deployment.parts.values()]


def run(deployment: Deployment, say: Callable[[str], None]) -> dict[str, Any]:
    """Carry the kit to the board.

    Args:
        deployment: A deployment from :func:`prepare`.
        say: Told every step, for people.

    Returns:
        {"board": what was found there, "copied": names, "bench": ..., "status": ..., "service": None where it was not
        asked for}.

    Raises:
        DeployError: The board cannot be reached or is not fit, or a command on it failed.
    """
    board = deployment.board
    found = _parse(_call(deployment.ssh(_probe(deployment)), PROBE), "what the board is")
    _require_fit(found, deployment)
    say(f"{board.address}: {found['machine']}, Python {'.'.join(map(str, found['python']))}")
    _call(deployment.ssh(_make_inbox(deployment)))
    copied = [parcel.name for parcel in deployment.parcels if _copy(deployment, parcel, found["there"], say)]
    say("installing and training; this takes some minutes the first time")
    _call(deployment.ssh(deployment.parts["install"]))
    say("measuring")
    bench = _parse(_call(deployment.ssh(deployment.parts["bench"])), "the measurement")
    status = _parse(_call(deployment.ssh(deployment.parts["status"])), "the state")
    if status["kit"] != deployment.kit.sha256:
        raise DeployError(f"{board.address} works with kit {status['kit'][:12]}, not with this one", "deploy it again")
    service = _start_service(deployment, say) if deployment.service else None
    return {"board": found, "copied": copied, "bench": bench, "status": status, "service": service}


def _start_service(deployment: Deployment, say: Callable[[str], None]) -> dict[str, Any]:
    board = deployment.board
    service = _parse(_call(deployment.ssh(deployment.parts["service"])), "whether it listens")
    if not service["started"]:
        raise DeployError(
            f"the kit works on {board.address}, but it does not listen yet: {service['problem']}",
            f"there, as a user who may: sh {service['script']} install",
        )
    lacking = service["waits_for"]
    say(
        "listening now, and with the board"
        if lacking is None
        else f"it cannot hear yet, and begins when it can: {lacking}"
    )
    return service


def _require_fit(found: Mapping[str, Any], deployment: Deployment) -> None:
    target = deployment.kit.manifest["target"]
    if tuple(found["python"]) < LEAST_PYTHON:
        have = ".".join(map(str, found["python"]))
        raise DeployError(f"the board's Python is {have}, 3.11 is needed", "use Raspberry Pi OS 12 (bookworm) or newer")
    if found["bits"] != 64 or not any(tag.endswith(f"_{found['machine']}") for tag in target["platforms"]):
        raise DeployError(
            f"the kit is for {target['title']} ({target['name']}); the board is {found['machine']}",
            "pack the run for it: edgeser pack RUN --target",
        )
    if deployment.service and not found["systemd"]:
        raise DeployError(
            "the board runs no systemd, by which the listening service is started",
            "deploy without --service, and start edgeser listen there in your own way",
        )
    if not found["installed"] and found["free_mb"] < LEAST_FREE_MB:
        raise DeployError(
            f"the board has {found['free_mb']} MB free, {LEAST_FREE_MB} MB are needed",
            "remove files, or use another card",
        )


def _copy(
    deployment: Deployment, parcel: Parcel, there: Mapping[str, tuple[int, str]], say: Callable[[str], None]
) -> bool:
    """Bring a file there, if it is not; whether anything was copied."""
    if there.get(parcel.name, (0, ""))[1] == parcel.sha256:
        say(f"{parcel.name} is there already")
        return False
    begun = there.get(f"{parcel.name}.part", (0, ""))[0]
    resume = 0 < begun < parcel.bytes
    say(f"copying {parcel.name}, {parcel.bytes:,} bytes" + (f", from byte {begun:,} on" if resume else ""))
    for attempt in (resume, False):
        _call(deployment.sftp(), _batch(deployment, parcel, attempt))
        try:
            _call(deployment.ssh(_accept(deployment, parcel)))
            return True
        except DeployError:
            if not attempt:
                raise
            say("what an earlier copy left is of another file: copying anew")
    return True


def _probe(deployment: Deployment) -> str:
    return f"python3 - {shlex.quote(deployment.board.folder)}"


def _make_inbox(deployment: Deployment) -> str:
    return f"mkdir -p {shlex.quote(f'{deployment.board.folder}/{INBOX}')}"


def _batch(deployment: Deployment, parcel: Parcel, resume: bool) -> str:
    part = f"{deployment.board.folder}/{INBOX}/{parcel.name}.part"
    return f"{'reput' if resume else 'put'} {_quoted(str(parcel.path))} {_quoted(part)}\n"


def _quoted(path: str) -> str:
    """A path as sftp's own commands take it."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _accept(deployment: Deployment, parcel: Parcel) -> str:
    """Give a copied file its name if its hash is right."""
    part, name = deployment.there(f"{parcel.name}.part"), deployment.there(parcel.name)
    return f"echo {parcel.sha256}'  '{part} | sha256sum --check --quiet - && mv -f {part} {name}"


def _call(command: list[str], text: str = "") -> str:
    """Run a command; its output."""
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    said = dict(line.split(": ", 1) for line in lines if line.startswith(("error: ", "hint: ")))
    if "error" in said:
        raise DeployError(f"the board says: {said['error']}", said.get("hint", "look there with ssh"))
    reason = lines[-1] if lines else f"exit code {done.returncode}"
    if done.returncode == 255:
        raise DeployError(f"the board cannot be reached: {reason}", "try it by hand: ssh USER@HOST")
    raise DeployError(f"{command[0]} failed: {reason}", "run this again; edgeser deploy --dry-run shows every command")


def _parse(text: str, what: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        return value
    except (ValueError, IndexError) as error:
        raise DeployError(f"the board did not say {what}: {text[:200]!r}", "look there with ssh") from error
