#!/bin/bash
# An engine of its own in throwaway directories, until Ctrl-C.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
prefix=moss-dev-$$
top=$(mktemp -d "${TMPDIR:-/tmp}/$prefix.XXXX")
export XDG_DATA_HOME=$top/data XDG_CONFIG_HOME=$top/config
sock=$XDG_RUNTIME_DIR/$prefix/moss.sock
leave() {
  trap '' INT TERM
  moss setup --uninstall --runtime --prefix "$prefix" || true
  # Layers belong to sub-ids: only the user namespace may remove them.
  unshare --user --map-auto --map-root-user rm -rf "$top"
}
trap leave EXIT
trap 'exit 0' INT TERM
moss setup --runtime --prefix "$prefix" --bin-dir "$root/bin"
if [ -n "${MOSS_RIG_SOCKET:-}" ]; then
  # The rig's /run is its own; this directory is on both sides.
  name=$(cat /rig/name)
  systemd-run --user --quiet --collect --unit="$prefix-proxy" \
    socat UNIX-LISTEN:/rig/pub/docker.sock,fork,mode=0666 "UNIX-CONNECT:$sock"
  echo "export DOCKER_HOST=unix:///var/tmp/moss-rig/$name/share/pub/docker.sock"
  echo "# a shell in the rig: tests/rig/rig user $name   (DOCKER_HOST=unix://$sock there)"
else
  echo "export DOCKER_HOST=unix://$sock"
fi
echo "# logs: journalctl --user -fu $prefix    Ctrl-C ends the engine and removes $top"
sleep infinity &
wait $!
