#!/bin/bash
# Runs go test: straight where the invoking user has a user manager, else with
# every test binary inside a rig as its unprivileged user.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
flags=(-race -p 2 -timeout 40m) # a package takes eight minutes of two cores, and three times that on slow ones
# A program with the race detector stays for a second at its end, and tests run themselves as helpers often.
export GORACE="atexit_sleep_ms=20 ${GORACE:-}"
if [ -n "${BENCH:-}" ]; then flags=(-p 1 -timeout 30m -run '^$' -bench "${RUN:-.}" -benchtime "${BENCHTIME:-20x}")
elif [ -n "${RUN:-}" ]; then flags+=(-run "$RUN" -v); fi
read -ra pkgs <<<"${PKG:-./...}"
if own_manager; then
  export MOSS_BIN=$root/bin
  exec go test "${flags[@]}" "${pkgs[@]}"
fi
rig=test-$$
rig_up "$rig"
if [ "${pkgs[*]}" = ./... ] && [ -z "${BENCH:-}" ]; then
  # The end-to-end tests leave half of two cores to others most of the time: they begin first, with a rig of their own.
  pkgs=(./tests/e2e ./...)
  export E2E_RIG=$rig-e2e
  rig_up "$E2E_RIG"
fi
# Compiling gives way to the tests that run.
status=0
nice -n 10 go test "${flags[@]}" -exec "$root/tests/dev/exec.sh $rig" "${pkgs[@]}" || status=$?
exit "$status"
