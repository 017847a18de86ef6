#!/bin/sh
# poll.sh REGISTRY REPOSITORY TAG TARGET NAME: runs the kernel of a tag, and polls every half minute.
set -u
[ $# -eq 5 ] || { echo 'usage: poll.sh REGISTRY REPOSITORY TAG TARGET NAME' >&2; exit 2; }
registry=$1 repository=$2 tag=$3 target=$4 name=$5
kernel=${STATE_DIRECTORY:-/var/lib/unikernels}/$name.$target
image="$registry/api/v1/repositories/$repository/images/$tag/kernel?target=$target"

ask() { curl -sS --fail-with-body ${NETRC:+--netrc-file "$NETRC"} "$@"; } # NETRC: the login for a private repository
message() { tr -cd '[:print:]' | sed -n 's/.*"message":"\([^"]*\)".*/\1/p'; } # of an error of the registry
failed() { echo "poll.sh: $1: ${2:-no answer}" >&2; }

while :; do
  rm -f "$kernel.new" "$kernel.etag.new"
  if ask -m 600 --etag-compare "$kernel.etag" --etag-save "$kernel.etag.new" -o "$kernel.new" "$image"; then
    [ -s "$kernel.new" ] && # empty: not changed
      mv "$kernel.new" "$kernel" && systemctl restart "unikernel@$name" && mv "$kernel.etag.new" "$kernel.etag"
  else
    failed "$image" "$(head -c 2000 "$kernel.new" 2>/dev/null | message)"
  fi
  sleep "${WAIT_SECONDS:-30}"
done
