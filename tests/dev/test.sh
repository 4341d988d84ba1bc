#!/bin/bash
# Runs go test: straight where the invoking user has a user manager, else with
# every test binary inside a rig as its unprivileged user.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
flags=(-race -p 2 -timeout 19m)
if [ -n "${BENCH:-}" ]; then flags=(-p 1 -timeout 30m -run '^$' -bench "${RUN:-.}" -benchtime "${BENCHTIME:-20x}")
elif [ -n "${RUN:-}" ]; then flags+=(-run "$RUN" -v); fi
read -ra pkgs <<<"${PKG:-./...}"
if own_manager; then
  export MOSS_BIN=$root/bin
  exec go test "${flags[@]}" "${pkgs[@]}"
fi
rig=test-$$
rig_up "$rig"
status=0
go test "${flags[@]}" -exec "$root/bin/rig exec $rig" "${pkgs[@]}" || status=$?
exit "$status"
