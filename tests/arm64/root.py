"""A 64-bit ARM system in a folder, as a fresh board has it: Debian's own packages, unpacked here without emulation.

    if (reason := missing()) is None:
        build(folder)
        install(folder, ["numpy", "onnxruntime"])             # wheels for the board, unpacked here too
        run(folder, "python3", "-c", "import numpy")          # its own programs, under qemu, without a network

Nothing outside ``folder`` changes: apt works in a folder of its own there, and the programs run in namespaces of their
own, in which the kernel hands ARM programs to qemu (Linux 6.7 or newer lets each user namespace have its own
``binfmt_misc``). Programs that start others, such as pip or a training, work as on a board. There is no /sys in it:
under qemu onnxruntime would read the PC's and fall over it. Emulation is 20 to 1000 times slower than this machine:
good for what is computed, not for how fast.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

QEMU = "qemu-aarch64-static"
TOOLS = {
    QEMU: "qemu-user-static",
    "unshare": "util-linux",
    "apt-get": "a Debian system",
    "dpkg-deb": "a Debian system",
    "tar": "tar",
}
"""Programs, and the Debian packages that bring them."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBS = ("python3-venv", "libportaudio2", "dash", "coreutils", "grep", "sed", "tar", "gzip", "findutils", "mawk")
"""What a fresh Raspberry Pi OS Lite has of what the install script and the tests use."""
SITE = "opt/site"
"""Where :func:`install` puts packages; on the path of Python there."""
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
ARM_PROGRAM = (
    r":edgeser-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)
"""How the kernel recognises a 64-bit ARM ELF file: magic and mask, as in QEMU's scripts/qemu-binfmt-conf.sh."""
NAMESPACES = ("--user", "--map-root-user", "--mount", "--pid", "--ipc", "--fork", "--kill-child")
ENTER = r"""
set -eu
root=$1 inside=$2 binds=$3
shift 3
mount -t proc proc "$root/proc"
mount -t binfmt_misc none "$root/proc/sys/fs/binfmt_misc"
printf '%s%s:F' "$EDGESER_RULE" "$EDGESER_QEMU" >"$root/proc/sys/fs/binfmt_misc/register"
for device in null zero urandom random; do mount --bind "/dev/$device" "$root/dev/$device"; done
while [ "$binds" -gt 0 ]; do mount --bind "$1" "$root$2"; shift 2; binds=$((binds - 1)); done
exec chroot "$root" /usr/bin/env -i -C "$inside" "$@"
"""
SECONDS = 1800
"""A generous bound for one command under emulation on a busy machine."""


def missing() -> str | None:
    """Why no ARM system can be built or run here, for a skip; None where it can."""
    for program, package in TOOLS.items():
        if shutil.which(program) is None:
            return f"{package} is not installed"
    if not KEYRING.is_file():
        return "debian-archive-keyring is not installed"
    with tempfile.TemporaryDirectory() as folder:
        probe = ["unshare", *NAMESPACES, "mount", "-t", "binfmt_misc", "none", folder]
        if subprocess.run(probe, capture_output=True, timeout=60).returncode:
            return "the kernel lets no namespace have its own binfmt_misc (Linux 6.7)"
    return None


def build(folder: Path, suite: str = "bookworm", packages: Sequence[str] = DEBS) -> None:
    """Make a system of Debian's ``suite`` (bookworm has Python 3.11, trixie 3.13): about 30 MB are downloaded.

    Args:
        folder: Does not exist yet; appears when it is complete.
        suite: A release of Debian.
        packages: Names of packages; what they need comes too.
    """
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="edgeser-arm64-") as name:
        root = draft
        for place in ("usr/bin", "usr/lib", "usr/sbin", "proc", "dev", "sys", "tmp", "etc", "root", SITE):
            (root / place).mkdir(parents=True)
        for place in ("bin", "lib", "sbin"):
            (root / place).symlink_to(f"usr/{place}")  # as on every Debian since 12
        for deb in download(Path(name), suite, packages):
            _unpack(deb, root)
    for device in ("null", "zero", "urandom", "random"):
        (root / "dev" / device).touch()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("dash")
    if not (root / "usr/bin/awk").exists():
        (root / "usr/bin/awk").symlink_to("mawk")
    draft.rename(folder)


def download(work: Path, suite: str, packages: Sequence[str]) -> list[Path]:
    """Fetch packages for arm64, and what they need, with an apt that knows nothing of this machine's packages."""
    settings = {
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Architecture": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()] + ['APT::Architectures { "arm64"; };']
    (work / "apt.conf").write_text("\n".join(lines) + "\n")
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
    for place in ("state/lists/partial", "cache/archives/partial"):
        (work / place).mkdir(parents=True)
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--download-only", "--yes", *packages]):
        _checked(["apt-get", "-qq", *words], environment)
    return sorted((work / "cache" / "archives").glob("*.deb"))


def install(root: Path, requirements: Sequence[str], python: str = "3.11", site: str = SITE) -> None:
    """Install wheels for the board natively, with pip's own ``--platform``; wheels without compiled code too.

    Args:
        root: A built system.
        requirements: As for pip: names, versions, or paths of wheels.
        python: Its Python.
        site: The folder inside; only :data:`SITE` is on the path of Python there unless PYTHONPATH names another.
    """
    tags = [word for tag in PLATFORMS for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--root-user-action=ignore", "--upgrade", "--target", str(root / site), "--only-binary=:all:"]
    _checked([*command, *tags, "--python-version", python, "--implementation", "cp", *requirements])


def command(
    root: Path,
    words: Sequence[str],
    binds: Mapping[Path, str] | None = None,
    network: bool = False,
    cwd: str = "/root",
    **environment: str,
) -> list[str]:
    """The command line that runs ``words`` inside; for those who want to start, watch or kill it themselves.

    Args:
        root: A built system.
        words: A program of it, and its arguments.
        binds: Folders of this machine and where they are seen inside; made there where they are missing.
        network: Whether it has this machine's network; without, not even its own.
        cwd: The folder inside in which it starts.
        environment: More variables for it; nothing of this process's environment reaches it.
    """
    pairs = []
    for outside, inside in (binds or {}).items():
        (root / inside.lstrip("/")).mkdir(parents=True, exist_ok=True)
        pairs += [str(outside), inside]
    variables = {
        "HOME": "/root",
        "PATH": "/usr/sbin:/usr/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": f"/{SITE}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "QEMU_CPU": "cortex-a72",  # of a Raspberry Pi 4
        **environment,
    }
    settings = [f"{name}={value}" for name, value in variables.items()]
    rule = [f"EDGESER_RULE={ARM_PROGRAM}", f"EDGESER_QEMU={shutil.which(QEMU)}"]
    spaces = [*NAMESPACES, *([] if network else ["--net"])]
    enter = ["unshare", *spaces, "sh", "-c", ENTER, "enter", str(root), cwd, str(len(pairs) // 2), *pairs]
    return ["env", *rule, *enter, *settings, *words]


def run(
    root: Path,
    *words: str,
    binds: Mapping[Path, str] | None = None,
    network: bool = False,
    cwd: str = "/root",
    check: bool = True,
    timeout: float = SECONDS,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a program of the system and wait; with ``check`` a failure raises, with all that it said."""
    line = command(root, words, binds, network, cwd, **environment)
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode:
        raise RuntimeError(f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def _mirror() -> str:
    """Where this machine gets Debian's packages from."""
    form = "$(REPO_URI) $(LABEL) $(COMPONENT)"
    listed = _checked(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    for line in listed.splitlines():
        address, label, component = line.split(" ", 2)
        if (label, component) == ("Debian", "main"):
            return address
    raise RuntimeError("apt knows no archive of Debian's own")


def _unpack(deb: Path, root: Path) -> None:
    packed = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
    with packed:
        unpack = ["tar", "-x", "-C", str(root), "--keep-directory-symlink", "--no-same-owner"]
        subprocess.run(unpack, stdin=packed.stdout, check=True)
    if packed.returncode:
        raise RuntimeError(f"{deb.name} cannot be unpacked")


def _checked(words: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}\n{done.stdout}\n{done.stderr}")
    return done.stdout
