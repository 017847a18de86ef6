#!/bin/sh
# poll.sh REGISTRY REPOSITORY TAG TARGET NAME: runs the kernel of a tag, and polls every half minute.
set -u
registry=$1 repository=$2 tag=$3 target=$4 name=$5
kernel=${STATE_DIRECTORY:-/var/lib/unikernels}/$name.$target

ask() { curl -fsS ${NETRC:+--netrc-file "$NETRC"} "$@"; } # NETRC: the login for a private repository

while :; do
  rm -f "$kernel.new" "$kernel.etag.new"
  if ask -m 600 --etag-compare "$kernel.etag" --etag-save "$kernel.etag.new" -o "$kernel.new" \
    "$registry/api/v1/repositories/$repository/images/$tag/kernel?target=$target" && [ -s "$kernel.new" ]; then
    mv "$kernel.new" "$kernel" && systemctl restart "unikernel@$name" && mv "$kernel.etag.new" "$kernel.etag"
  fi
  sleep "${WAIT_SECONDS:-30}"
done
