#!/bin/sh
# Set up edgeser on a board, and train a kit there. Safe to run again: what is there is kept, what was interrupted goes on.
#
#   sh install.sh [--trust KEY.pub] [--service] [KIT.edgeser [FOLDER]]
#   sh install.sh --uninstall [FOLDER]
#
# The packages come from the kit where it holds wheels (no network is needed then), else edgeser from edgeser-*.whl beside
# the kit or from EDGESER_PACKAGE (a wheel, a checkout or a requirement of pip) and the others from pip's index.
# Everything is in FOLDER (~/edgeser): software/ has the environments, slots/a and slots/b a kit and its model each, and
# current points to the one that works. It is changed only after the new slot has passed its check. Never run with sudo.
# --service starts listening, now and with the board, by a unit of systemd; setting that up asks sudo, without a password.
set -eu

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 2
}

trust='' service='' uninstall=''
while [ $# -gt 0 ]; do
    case $1 in
    --trust)
        [ $# -gt 1 ] || fail "--trust needs a file" "sh install.sh --trust KEY.pub KIT.edgeser"
        trust=$2
        shift
        ;;
    --service) service=yes ;;
    --uninstall) uninstall=yes ;;
    --help | -h)
        sed -n 's/^# \{0,1\}//p' "$0" | sed 1d
        exit 0
        ;;
    -*) fail "there is no option $1" "sh install.sh --help" ;;
    *) break ;;
    esac
    shift
done

if [ -n "$uninstall" ]; then
    folder=${1:-"${HOME:-.}/edgeser"}
    [ -f "$folder/installation.json" ] || fail "$folder is no installation" "sh install.sh --uninstall FOLDER"
    if [ -f "$folder/service" ]; then
        sh "$folder/service" remove ||
            echo "note: the service is still set up; remove /etc/systemd/system/edgeser-listen.service with sudo" >&2
    fi
    rm -rf "$folder/slots" "$folder/software" "$folder/work" "$folder/wheels" "$folder/inbox" "$folder"/.slots.* "$folder"/.current.*
    rm -f "$folder/current" "$folder/service" "$folder/edgeser-listen.service" "$folder/.lock" "$folder/installation.json"
    rmdir "$folder" 2>/dev/null || echo "kept: $folder holds other files"
    echo "removed: edgeser in $folder"
    exit 0
fi

kit=${1:-}
if [ -z "$kit" ]; then
    for found in ./*.edgeser; do
        if [ -f "$found" ]; then kit=$found; fi
    done
fi
folder=${2:-"${HOME:-.}/edgeser"}
package=${EDGESER_PACKAGE:-}
settings=${XDG_CONFIG_HOME:-"${HOME:-.}/.config"}/edgeser/trusted.pub

[ -n "$kit" ] && [ -f "$kit" ] || fail "no kit is given or found here" "sh install.sh KIT.edgeser"
command -v python3 >/dev/null || fail "python3 is missing" "sudo apt install python3 python3-venv"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "python3 is older than 3.11" "use Raspberry Pi OS 12 (bookworm) or newer"
python3 -c 'import sys; sys.exit(sys.maxsize <= 2**32)' ||
    fail "this system is 32-bit, for which onnxruntime is not built" "install the 64-bit Raspberry Pi OS"
[ -z "$trust" ] || [ -f "$trust" ] || fail "there is no key $trust" "sh install.sh --trust KEY.pub KIT.edgeser"
[ -z "$service" ] || systemctl show --property=Version >/dev/null 2>&1 ||
    fail "this system runs no systemd, which --service needs" "leave --service out, and start edgeser listen in your own way"
if [ -d "$folder" ] && [ ! -f "$folder/installation.json" ]; then
    for found in "$folder"/* "$folder"/.[!.]*; do
        case ${found##*/} in
        '*' | '.[!.]*' | inbox | software | wheels | .lock) ;;
        *) fail "$folder holds ${found##*/} and is no installation" "choose another folder" ;;
        esac
    done
fi
if [ ! -d "$folder" ]; then # what ends early leaves no empty folder behind
    trap 'rmdir "$folder" 2>/dev/null || :' EXIT
fi
mkdir -p "$folder" || fail "$folder cannot be made" "choose another folder: sh install.sh KIT.edgeser FOLDER"
folder=$(cd "$folder" && pwd)

# Keys that a kit must be signed with: one that is asked for, and every one that this machine is set up with.
# Nothing of the kit is unpacked or installed before its signature is verified, by the software that works here already
# or, the first time, by OpenSSL.
verify() { # KEY
    if [ -x "$folder/current/software/bin/edgeser" ]; then
        "$folder/current/software/bin/edgeser" inspect "$kit" --verify "$1" >/dev/null || exit 2
        return
    fi
    command -v openssl >/dev/null || fail "a signature cannot be verified without openssl" "sudo apt install openssl"
    part=$(mktemp -d)
    python3 - "$kit" "$part" <<'END' || fail "the kit is not signed" "edgeser pack --sign KEY"
import sys, zipfile

with zipfile.ZipFile(sys.argv[1]) as kit:
    for name in ("manifest.json", "manifest.sig"):
        if name not in kit.namelist() or kit.getinfo(name).file_size > 1 << 20:
            sys.exit(1)
        with open(f"{sys.argv[2]}/{name}", "wb") as file:
            file.write(kit.read(name))
END
    openssl pkeyutl -verify -pubin -inkey "$1" -rawin -in "$part/manifest.json" -sigfile "$part/manifest.sig" \
        >/dev/null 2>&1 || {
        rm -rf "$part"
        fail "the kit is not signed with the key $1" "get the kit from someone who has that key; do not use this one"
    }
    rm -rf "$part"
}
for key in "$trust" "${EDGESER_TRUST:-}" /etc/edgeser/trusted.pub "$settings"; do
    [ -n "$key" ] || continue
    if [ -f "$key" ]; then
        verify "$key"
    elif [ "$key" = "${EDGESER_TRUST:-}" ]; then
        fail "EDGESER_TRUST names $key, which is not there" "put the key there, or unset the variable"
    fi
done

# A kit for another board is refused before anything is installed. Wheels of the kit, each compared with its hash in the manifest; prints what the environment is named after.
rm -rf "$folder/wheels"
wheels=$(python3 - "$kit" "$folder/wheels" <<'END'
import hashlib, json, os, re, shutil, sys, zipfile


def stop(problem, hint):
    print(f"error: {problem}\nhint: {hint}", file=sys.stderr)
    sys.exit(2)


path, folder = sys.argv[1:]
try:
    with zipfile.ZipFile(path) as kit:
        manifest = json.loads(kit.read("manifest.json")) if kit.getinfo("manifest.json").file_size < 1 << 20 else {}
        target, machine = manifest["target"], {"arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
        if not any(tag.endswith(f"_{machine}") for tag in target["platforms"]):
            fitting = {"aarch64": "rpi4, or the board's own name", "x86_64": "x86-64"}.get(machine, "NAME")
            stop(
                f"the kit is for another board: {target['title']!r} ({target['name']!r}); this machine is {machine}",
                f"pack the run for this machine: edgeser pack RUN --target {fitting}",
            )
        asked = manifest.get("wheels")
        if not asked:
            sys.exit(0)
        here = "%d.%d" % sys.version_info[:2]
        if asked["python"] != here:
            stop(f"the kit's wheels are for Python {asked['python']}, this is {here}", f"pack it with --python {here}")
        names = [name for name in manifest["members"] if re.fullmatch(r"wheels/[A-Za-z0-9_][A-Za-z0-9_.+-]*", name)]
        size = sum(manifest["members"][name]["bytes"] for name in names)
        if shutil.disk_usage(os.path.dirname(folder)).free < 6 * size:  # packages take about five times their wheels
            stop(f"the packages need {6 * size >> 20} MB of free space", "remove files, or use another card")
        os.mkdir(folder)
        for name in names:
            stated, digest = manifest["members"][name], hashlib.sha256()
            if kit.getinfo(name).file_size != stated["bytes"]:
                stop(f"{name} is not what the kit's manifest states", "copy or download the kit again")
            with kit.open(name) as source, open(f"{folder}/{name[7:]}", "wb") as target:
                while piece := source.read(1 << 20):
                    digest.update(piece)
                    target.write(piece)
            if digest.hexdigest() != stated["sha256"]:
                stop(f"{name} is not what the kit's manifest states", "copy or download the kit again")
        print(manifest["members"]["wheels/requirements.txt"]["sha256"][:12])
except (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
    stop(f"the kit {path} cannot be read: {error}", "copy or download the kit again")
END
) || {
    rm -rf "$folder/wheels"
    exit 2
}
if [ -n "$wheels" ]; then
    id=$wheels
else
    if [ -z "$package" ]; then
        for found in "$(dirname "$kit")"/edgeser-*.whl; do
            if [ -f "$found" ]; then package=$found; fi
        done
    fi
    if [ -n "$package" ]; then
        id=$(python3 -c 'import hashlib, os, sys
name = sys.argv[1]
print(hashlib.sha256(open(name, "rb").read() if os.path.isfile(name) else name.encode()).hexdigest()[:12])' "$package")
    elif [ -e "$folder/current/software" ]; then
        id=$(basename "$(readlink "$folder/current/software")")
    else
        fail "no wheels in the kit, no edgeser-*.whl beside it, and EDGESER_PACKAGE is not set" \
            "pack with --wheels; or build a wheel in the checkout (pip wheel --no-deps .) and copy it beside the kit"
    fi
fi

software=$folder/software/$id
if [ ! -f "$software/complete" ]; then # a virtual environment cannot be moved: it is whole when this file is there
    rm -rf "$software"
    mkdir -p "$folder/software"
    python3 -m venv "$software" || {
        rm -rf "$software"
        fail "the virtual environment cannot be made" "sudo apt install python3-venv, and check the free space (df -h)"
    }
    if [ -n "$wheels" ]; then
        set -- --no-index --find-links "$folder/wheels" --require-hashes -r "$folder/wheels/requirements.txt"
    elif [ -e "$package" ]; then
        set -- "$package" 'cryptography>=42'
    else
        set -- "${package}[trust]"
    fi
    "$software/bin/python" -m pip install --quiet --disable-pip-version-check "$@" || {
        rm -rf "$software"
        fail "the installation of the packages failed" "check the network and the free space, then run this again"
    }
    sync
    : >"$software/complete"
fi
rm -rf "$folder/wheels"

if [ -n "$trust" ]; then "$software/bin/edgeser" device trust "$trust"; fi
"$software/bin/edgeser" device install "$kit" --folder "$folder"
"$software/bin/edgeser" device check --folder "$folder" >/dev/null
if [ -n "$service" ]; then
    "$software/bin/edgeser" device service --folder "$folder"
elif [ -f "$folder/service" ]; then # one that listens goes on with the new model
    sh "$folder/service" install || echo "note: it listens with the model before; as a user who may: sh $folder/service install" >&2
fi
echo "ready: $folder/current/software/bin/edgeser predict $folder/current/model FILE"
