"""A real sshd on the loopback address, with keys and settings of its own in a folder."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
PROGRAMS = {"ssh": "openssh-client", "sftp": "openssh-client", "ssh-keygen": "openssh-client", SSHD: "openssh-server"}


@dataclass(frozen=True)
class Server:
    """Where it listens, and how one gets in.

    Attributes:
        address: For ssh.
        config: A configuration of ssh that knows the port, the host's key and the user's.
        home: The folder in which a session starts.
        log: What sshd says.
    """

    address: str
    config: Path
    home: Path
    log: Path


def missing() -> str | None:
    """Why no server can be started here, for a skip; None where it can."""
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"{package} is not installed"
    return None


@contextmanager
def running(folder: Path, environment: dict[str, str]) -> Iterator[Server]:
    """Start a server whose sessions begin in ``folder/home`` with these variables."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    authorized = folder / "authorized_keys"
    authorized.write_text((folder / "user.pub").read_text())
    port, log = _free_port(), folder / "log"
    # A session's home is the user's own; each command is started in ours instead.
    start = folder / "start"
    lines = [f"export {name}='{value}'" for name, value in {**environment, "HOME": str(home)}.items()]
    server = "/usr/lib/openssh/sftp-server"
    start.write_text(
        "\n".join(("#!/bin/sh", *lines, f"cd {home}", "case $SSH_ORIGINAL_COMMAND in"))
        + f'\n*sftp-server*) exec {server} ;;\n*) exec /bin/sh -c "$SSH_ORIGINAL_COMMAND" ;;\nesac\n'
    )
    start.chmod(0o755)
    settings = folder / "sshd_config"
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nAuthorizedKeysFile {authorized}\n"
        f"PidFile {folder / 'pid'}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nForceCommand {start}\n"
        f"Subsystem sftp {server}\n"
    )
    config = folder / "ssh_config"
    host = (folder / "host.pub").read_text().split()
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {host[0]} {host[1]}\n")
    config.write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {folder / 'user'}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n  GlobalKnownHostsFile /dev/null\n  BatchMode yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd separates its privileges
    with log.open("wb") as said:
        daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", str(settings)], stdin=subprocess.DEVNULL, stderr=said)
        try:
            _wait(port, daemon, log)
            yield Server("board", config, home, log)
        finally:
            daemon.terminate()
            daemon.wait(timeout=60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(f"sshd ended: {log.read_text()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"sshd does not answer: {log.read_text()}")
