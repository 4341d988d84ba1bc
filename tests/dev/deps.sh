#!/bin/bash
# Installs what building and testing need and the machine lacks (Debian,
# Ubuntu). Nothing is started or enabled: packages whose services we do not
# want are unpacked into bin/tools instead of installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(
  # the engine's ground
  systemd systemd-sysv dbus dbus-user-session libpam-systemd uidmap slirp4netns passt fuse-overlayfs
  # the build
  gcc libc6-dev libseccomp-dev pkg-config make git ca-certificates
  # what tests use or compare with
  crun runc iproute2 procps util-linux bsdutils netcat-openbsd curl jq nftables socat skopeo
  openssl podman conmon bzip2 xz-utils zstd docker-compose
)
tools=bin/tools

die() { echo "deps: $*" >&2; exit 1; }
export PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin
go version >/dev/null 2>&1 || die "the Go toolchain is missing; go.mod names the version: https://go.dev/dl"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "needs root to run: $*"; fi
}

refreshed=
refresh() {
  [ -z "$refreshed" ] || return 0
  as_root apt-get update -qq
  refreshed=1
}

missing=()
if command -v dpkg-query >/dev/null; then
  for p in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
  done
else
  for c in newuidmap slirp4netns fuse-overlayfs gcc pkg-config crun runc ip curl jq nft socat; do
    command -v "$c" >/dev/null || die "$c is missing, and without dpkg it is yours to install"
  done
fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "deps: installing ${missing[*]}"
  refresh
  log=$(mktemp)
  # Package scripts ask policy-rc.d before they start a service.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod 755 /usr/sbin/policy-rc.d
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
    { cat "$log" >&2; die "apt-get could not install them"; }
  # podman's package would have its services at the next boot and login.
  if [[ " ${missing[*]} " == *" podman "* ]]; then
    for scope in --system --global; do
      as_root systemctl "$scope" disable podman.socket podman.service podman-restart.service \
        podman-auto-update.service podman-auto-update.timer >/dev/null 2>&1 || true # not all are in every release
    done
  fi
fi

# unpack COMMAND PATH-IN-PACKAGE PACKAGE…: one file of the first package that is to be had
unpack() {
  local cmd=$1 path=$2 tmp p; shift 2
  [ ! -x "$tools/$cmd" ] || return 0
  command -v apt-get >/dev/null || die "$cmd is missing"
  tmp=$(mktemp -d)
  for try in 1 2; do
    for p in "$@"; do
      (cd "$tmp" && apt-get download -qq "$p" >/dev/null 2>&1) && break 2
    done
    refresh
  done
  dpkg-deb -x "$tmp"/*.deb "$tmp/x" || die "cannot get $cmd from any of: $*"
  mkdir -p "$tools"
  install -m 0755 "$tmp/x/$path" "$tools/$cmd"
  rm -rf "$tmp"
  echo "deps: $tools/$cmd unpacked"
}
command -v docker >/dev/null || unpack docker usr/bin/docker docker-cli docker.io
command -v docker-registry >/dev/null || unpack docker-registry usr/bin/docker-registry docker-registry
# Not installed: busybox-static would push busybox out.
/bin/busybox true 2>/dev/null && ! ldd /bin/busybox >/dev/null 2>&1 || unpack busybox bin/busybox busybox-static
