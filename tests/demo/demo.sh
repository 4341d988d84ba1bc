#!/bin/bash
# The shortest honest demonstration, as a transcript: run by `make demo` as a
# user with a user manager. It uses an engine with a unit prefix and
# directories of its own and takes all of it away again.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export PATH=$root/bin:$root/bin/tools:$PATH
prefix=moss
if systemctl --user --quiet is-active moss.socket; then prefix=moss-demo; fi # leave an installed engine alone
top=$(mktemp -d "${TMPDIR:-/tmp}/moss-demo.XXXX")
export XDG_DATA_HOME=$top/data XDG_CONFIG_HOME=$top/config DOCKER_CONFIG=$top/docker
export DOCKER_HOST=unix://$XDG_RUNTIME_DIR/$prefix/moss.sock
export SYSTEMD_PAGER= SYSTEMD_COLORS=0
port=${PORT:-8080}
done=

show() { printf '\n$ %s\n' "$*"; "$@"; }
leave() {
  status=$?
  trap - EXIT
  [ -n "$done" ] || { echo; journalctl --user -n 40 --no-pager -u "$prefix*" 2>/dev/null || true; }
  moss setup --uninstall --runtime --prefix "$prefix" >/dev/null || status=1
  unshare --user --map-auto --map-root-user rm -rf "$top"
  exit "$status"
}
trap leave EXIT
trap 'exit 130' INT TERM

show moss setup --runtime --prefix "$prefix" --bin-dir "$root/bin"
show docker version --format 'client {{.Client.Version}}, server {{.Server.Version}}'
printf '\n$ docker run -d -p 127.0.0.1:%s:80 moss/hello\n' "$port"
id=$(docker run -d -p "127.0.0.1:$port:80" moss/hello)
echo "$id"
unit=$prefix-${id:0:12}
show curl --silent --show-error --fail "http://127.0.0.1:$port/"
show docker ps
show moss ps
show systemctl --user status --no-pager --lines=3 "$unit"
show docker stop "$id"
show docker rm "$id"
done=1
printf '\nThe container was a unit of your own systemd; nothing of it is left.\n'
