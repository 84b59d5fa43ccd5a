"""The systemd unit that makes a board listen from its start: written for the program and the flags that were given."""

from __future__ import annotations

import getpass
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeser_device.errors import ListenError

UNIT = """\
# Made by: edgeser {shown}
[Unit]
Description=edgeser listens: emotion of speech from the microphone
After=network-online.target sound.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
WorkingDirectory={folder}
User={user}
SupplementaryGroups=audio
Environment=OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
# Passwords and tokens, one NAME=VALUE a line: EDGESER_MQTT_PASSWORD, EDGESER_WEB_TOKEN
EnvironmentFile=-/etc/edgeser/listen.env
Restart=always
RestartSec=5
WatchdogSec=60
TimeoutStartSec=120
MemoryMax=300M
# What it does not need it cannot do.
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome={home}
{writable}PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
DevicePolicy=closed
DeviceAllow=char-alsa rw
UMask=0077

[Install]
WantedBy=multi-user.target
"""
"""One of each; what differs is filled in. Python and its packages may lie in a home, which is readable then."""


def unit_text(arguments: Sequence[str], model: Path, clips: Path | None, user: str | None = None) -> str:
    """The unit for ``edgeser ARGUMENTS``.

    Args:
        arguments: Those of this program, less --print-unit.
        model: The model's folder, which becomes an absolute path.
        clips: A folder that the service may write; None for none.
        user: Under whom it runs; by default who asks, or who called sudo.

    Raises:
        ListenError: The model is no folder.
    """
    if not model.is_dir():
        raise ListenError(f"{model} is no folder", "give the model's folder: edgeser listen MODEL --web --print-unit")
    places = {str(model): str(model.resolve())}
    if clips is not None:
        places[str(clips)] = str(clips.resolve())
    words = [sys.executable, "-m", "edgeser", *(places.get(word, word) for word in arguments)]
    folders = [str(clips.resolve())] if clips is not None else []
    return UNIT.format(
        shown=shlex.join(arguments),
        command=" ".join(_quoted(word) for word in words),
        folder=model.resolve().parent,
        user=user or os.environ.get("SUDO_USER") or getpass.getuser(),
        home="read-only",
        writable="".join(f"ReadWritePaths={_quoted(folder)}\n" for folder in folders),
    )


def _quoted(word: str) -> str:
    """A word as systemd reads it: % and $ stand for themselves, blanks and quotes are kept."""
    plain = word.replace("%", "%%").replace("$", "$$")
    if plain and not set(plain) & set(" \t\n\"'\\;"):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
