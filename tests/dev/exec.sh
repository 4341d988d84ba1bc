#!/bin/sh
# exec.sh RIG TEST…: a test binary in a rig, the end-to-end tests' in the one that E2E_RIG names.
rig=$1
shift
case "$1" in */e2e.test) rig=${E2E_RIG:-$rig} ;; esac
exec "$(dirname "$0")/../../bin/rig" exec "$rig" "$@"
