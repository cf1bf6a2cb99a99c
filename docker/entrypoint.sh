#!/bin/sh
# Postgres refuses a user without a name, and `docker run --user 1234` brings none: nss_wrapper gives
# it one for the processes of this container.
set -e
if ! getent passwd "$(id -u)" > /dev/null; then
  NSS_WRAPPER_PASSWD=$(mktemp) NSS_WRAPPER_GROUP=$(mktemp)
  echo "poolproof:x:$(id -u):$(id -g):poolproof:/tmp:/bin/sh" > "$NSS_WRAPPER_PASSWD"
  echo "poolproof:x:$(id -g):" > "$NSS_WRAPPER_GROUP"
  LD_PRELOAD=libnss_wrapper.so
  export NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP LD_PRELOAD
fi
exec poolproof "$@"
