#!/bin/bash
# with-user-manager.sh NAME SCRIPT: runs a script of this checkout where a user
# manager is: here, or else as the user of a rig booted for it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
name=$1 script=$2
if own_manager; then exec "$script"; fi
rig=$name-$$
rig_up "$rig"
echo "# no user manager for $(id -un) here: this runs as alice in a rig (docs/HACKING.md)"
bin/rig user "$rig" "exec /src/$script" &
# wait, unlike a foreground child, lets the traps run at once.
trap 'kill -INT $! 2>/dev/null' INT TERM
status=0
wait $! || status=$?
while kill -0 $! 2>/dev/null; do wait $! || status=$?; done
exit "$status"
