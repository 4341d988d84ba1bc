# Shared by the scripts beside it; sourced, not run.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
export PATH=$root/bin:$root/bin/tools:$PATH

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# own_manager: may the invoking user run an engine right here?
own_manager() {
  [ "$(id -u)" != 0 ] && [ -z "${RIG:-}" ] || return 1
  case "$(systemctl --user is-system-running 2>/dev/null)" in running | degraded | starting) ;; *) return 1 ;; esac
  command -v newuidmap >/dev/null && getsubids "$(id -un)" >/dev/null 2>&1
}

# rig_up NAME: a rig that goes when this script does, however it ends.
rigs=()
rigs_down() { local r; for r in "${rigs[@]}"; do bin/rig down "$r"; done; }
rig_up() {
  [ "${#rigs[@]}" != 0 ] || CGO_ENABLED=0 go build -o bin/rig ./tests/rig/rigd
  if [ "$(id -u)" = 0 ]; then bin/rig up "$1" --for $$
  elif command -v sudo >/dev/null; then sudo bin/rig up "$1" --for $$
  else die "you have no user manager (systemctl --user) and booting the rig needs root or sudo"; fi
  rigs+=("$1")
  trap rigs_down EXIT
}
