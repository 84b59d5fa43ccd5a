#!/bin/sh
# Start listening with the board, or end that:  sh service [install | remove]
set -eu
unit=edgeser-listen.service
units=/etc/systemd/system
here=$(cd "$(dirname "$0")" && pwd)
asroot() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}
case ${1:-install} in
install)
    asroot install -m 644 "$here/$unit" "$units/$unit"
    asroot systemctl daemon-reload
    asroot systemctl enable "$unit"
    asroot systemctl restart "$unit" # one that runs already goes on with the new model
    ;;
remove)
    asroot systemctl disable --now "$unit" || true
    asroot rm -f "$units/$unit"
    asroot systemctl daemon-reload
    rm -f "$here/$unit"
    ;;
*)
    echo "usage: sh service [install | remove]" >&2
    exit 2
    ;;
esac
