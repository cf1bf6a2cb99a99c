#!/usr/bin/env bash
# Makes a Debian 12 image with PostgreSQL 15 from packages and imports it under the name given.
# Needs root, mmdebstrap and a Docker engine; pulls no image.
set -euo pipefail
name=${1:?usage: docker/base.sh NAME:TAG}
suite=${SUITE:-bookworm}
packages=ca-certificates,postgresql
# Only the server's programs are wanted, so no cluster of its own is created or started.
hook='mkdir -p "$1/etc/postgresql-common" && printf "create_main_cluster = false\n" > "$1/etc/postgresql-common/createcluster.conf"'
# Afterwards: with it every user id has a name, and the server's package finds none that is free.
named='chroot "$1" apt-get install -y --no-install-recommends libnss-unknown'
mmdebstrap --variant=minbase --include="$packages" --essential-hook="$hook" --customize-hook="$named" "$suite" - ${APT_SOURCES:+"$APT_SOURCES"} \
  | docker import - "$name"
