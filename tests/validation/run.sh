#!/bin/sh
# Runs the OCI runtime-tools' validation programs against moss-runtime, or the
# runtime in $RUNTIME, as an unprivileged user in a rig: inside a user namespace
# and a delegated cgroup. Prints a line a program: its exit code, and how many of
# its checks passed and failed. TESTS="kill state" narrows it.
set -eu
cd "$(dirname "$0")"
tools=github.com/opencontainers/runtime-tools
out=$PWD/../../bin/validation
mkdir -p "$out"
# The last release is of 2018 and fits the specification's and SELinux's Go packages of its days.
CGO_ENABLED=0 GOFLAGS=-mod=mod go build -o "$out/" $tools/cmd/runtimetest $tools/validation/...
cp "$(GOFLAGS=-mod=mod go list -m -f '{{.Dir}}' $tools)/rootfs-$(go env GOARCH).tar.gz" inside.sh "$out/"
chmod -R u+w "$out"
cd ../..
rig=tests/rig/rig
name=validation-$$
trap '$rig down $name' EXIT
$rig up $name
$rig user $name 'export XDG_RUNTIME_DIR=/run/user/$(id -u); cp -a /src/bin/validation ~/validation &&
    exec systemd-run --user --quiet --pipe --wait --collect -p Delegate=yes -E "TESTS='"${TESTS-}"'" -E RUNTIME_BINARY='"${RUNTIME:-/src/bin/moss-runtime}"' \
    unshare --user --map-auto --map-root-user --mount --cgroup sh ~/validation/inside.sh'
