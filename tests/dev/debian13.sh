#!/bin/bash
# Runs tests in a rig whose files are Debian 13's, for what this machine's
# systemd does not have yet. RUN is the tests; by itself, those of sealed secrets.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
tree=/var/tmp/moss-debian13
[ "$(id -u)" = 0 ] || die "needs root, to unpack another system"
if [ ! -e "$tree/.whole" ]; then
  command -v mmdebstrap >/dev/null || apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
  rm -rf "$tree"
  mmdebstrap --quiet --variant=minbase --include=systemd-sysv,dbus-user-session,libpam-systemd,uidmap,slirp4netns,passt,fuse-overlayfs,iproute2,procps,nftables,jq,libseccomp2,crun,docker-cli \
    trixie "$tree"
  touch "$tree/.whole"
fi
export MOSS_RIG_ROOT=$tree RIG=1 MOSS_SEALED=1
export PKG=${PKG:-./tests/e2e} RUN=${RUN:-TestSealed}
exec tests/dev/test.sh
