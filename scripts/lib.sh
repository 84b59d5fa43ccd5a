# shellcheck shell=bash
# Shared by the scripts beside it: find Python, make the virtual environment, install what is missing, say why it takes a while.
# Source it after `set -euo pipefail`; it changes to the root of the repository.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root" || exit
python="$root/.venv/bin/python"

# Debian packages that the tests and the demo need besides python3 and python3-venv: none. Wheels carry libsndfile and
# libsoxr. Tests marked `system` use more and skip visibly without it.
debian_packages=()

# What the tests marked `system` need; `scripts/test --all` installs them where it may.
# shellcheck disable=SC2034  # for the scripts that source this file
system_packages=(
    openssh-client   # deploy
    openssh-server   # its other end, on a port of its own
    qemu-user-static # a board's programs on a PC
    alsa-utils libasound2-plugins libportaudio2 pulseaudio pulseaudio-utils # a virtual microphone
    chromium                                                                # the page
    mosquitto                                                               # the broker
)

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $1"
    say "hint: $2"
    exit 2
}

# Prints the interpreter to build the environment with: $PYTHON, else the first python3 that is new enough.
find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "edgeser needs Python 3.11 or newer; python3 here is $(python3 --version 2>/dev/null || echo missing)" \
        "install python3.11 (or newer) with its venv module, or name one: PYTHON=/path/to/python3 $0"
}

install_debian_packages() {
    local missing=() package
    command -v dpkg-query >/dev/null || return 0
    for package in "$@"; do
        [[ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" == *" installed" ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        say "missing Debian packages: ${missing[*]} (install them with: sudo apt-get install ${missing[*]})"
        return 0
    fi
    say "installing Debian packages: ${missing[*]}"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

create_environment() {
    local base
    base="$(find_python)"
    say "creating .venv with $("$base" --version)"
    if ! "$base" -c 'import ensurepip' 2>/dev/null; then
        # Debian and Ubuntu split the venv module off.
        install_debian_packages "python$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        "$base" -c 'import ensurepip' 2>/dev/null ||
            die "$base has no venv module" "sudo apt-get install python3-venv, then start this again"
    fi
    "$base" -m venv --clear .venv
}

# The state an installation answers to: what is asked for, where, and with which Python.
fingerprint() { # EXTRAS
    "$python" - "$1" "$root" <<'END'
import hashlib, pathlib, sys

state = [*sys.argv[1:], sys.version, *(pathlib.Path(name).read_text() for name in ("pyproject.toml", "constraints.txt"))]
print(hashlib.sha256("\n".join(state).encode()).hexdigest())
END
}

is_installed() { # EXTRAS
    [[ -f ".venv/.installed-$1" && "$(<".venv/.installed-$1")" == "$(fingerprint "$1")" ]]
}

install_locked() { # EXTRAS REASON
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || create_environment
    is_installed "$1" && return
    say "installing edgeser[$1] into .venv: $2; the first time this takes some minutes (torch alone is about 200 MB)"
    "$python" -m pip install -qq --disable-pip-version-check --root-user-action=ignore \
        --editable ".[$1]" --constraint constraints.txt >&2
    fingerprint "$1" >".venv/.installed-$1"
}

# Creates .venv, or brings it up to date; does nothing when pyproject.toml and constraints.txt have not changed.
ensure_environment() { # EXTRAS REASON
    ((${#debian_packages[@]})) && install_debian_packages "${debian_packages[@]}"
    if command -v flock >/dev/null; then # two scripts started at once must not both install
        (
            flock 9
            install_locked "$1" "$2" 9>&-
        ) 9>.venv.lock
    else
        install_locked "$1" "$2"
    fi
}

# Everything that tests and checks import. ray is left out: it is large, and only slow tests use it.
# shellcheck disable=SC2034  # for the scripts that source this file
development_extras="host,mic,mqtt,trust,web,audformat,dev"
