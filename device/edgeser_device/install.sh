#!/bin/sh
# Set up edgeser on a board and train the kit beside this script:  sh install.sh [KIT.edgeser [FOLDER]]
# edgeser itself is taken from edgeser-*.whl beside the kit, or from EDGESER_PACKAGE: a wheel, a checkout or a
# requirement of pip. Safe to run again: what is there is kept, and an interrupted training goes on. Nothing is
# installed outside FOLDER.
set -eu

kit=${1:-}
if [ -z "$kit" ]; then
    for found in ./*.edgeser; do
        if [ -f "$found" ]; then kit=$found; fi
    done
fi
folder=${2:-"${HOME:-.}/edgeser"}
package=${EDGESER_PACKAGE:-}

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 2
}

[ -n "$kit" ] && [ -f "$kit" ] || fail "no kit is given or found here" "sh install.sh KIT.edgeser"
if [ -z "$package" ]; then
    for found in "$(dirname "$kit")"/edgeser-*.whl; do
        if [ -f "$found" ]; then package=$found; fi
    done
fi
[ -n "$package" ] || [ -x "$folder/venv/bin/edgeser" ] ||
    fail "no edgeser-*.whl lies beside $kit, and EDGESER_PACKAGE is not set" \
        "build one in the checkout (pip wheel --no-deps .) and copy it beside the kit"
command -v python3 >/dev/null || fail "python3 is missing" "sudo apt install python3 python3-venv"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "python3 is older than 3.11" "use Raspberry Pi OS 12 (bookworm) or newer"
python3 -c 'import sys; sys.exit(sys.maxsize <= 2**32)' ||
    fail "this system is 32-bit, for which onnxruntime is not built" "install the 64-bit Raspberry Pi OS"

if [ ! -x "$folder/venv/bin/python" ]; then
    python3 -m venv "$folder/venv" || fail "the virtual environment cannot be made" "sudo apt install python3-venv"
fi
if [ ! -x "$folder/venv/bin/edgeser" ]; then
    "$folder/venv/bin/python" -m pip install "$package" || fail "the installation failed" "check the network, then run this again"
fi
"$folder/venv/bin/edgeser" doctor
"$folder/venv/bin/edgeser" train-on-device "$kit" --out "$folder/model" --resume
echo "ready: $folder/venv/bin/edgeser predict $folder/model FILE"
