#!/bin/sh
# follow.sh REGISTRY REPOSITORY TAG TARGET NAME: runs the kernel of a tag, and follows the tag.
set -u
[ $# -eq 5 ] || { echo 'usage: follow.sh REGISTRY REPOSITORY TAG TARGET NAME' >&2; exit 2; }
registry=$1 repository=$2 tag=$3 target=$4 name=$5
kernel=${STATE_DIRECTORY:-/var/lib/unikernels}/$name.$target
image="$registry/api/v1/repositories/$repository/images/$tag/kernel?target=$target"
events="$registry/api/v1/events?repository=$repository&tag=$tag&snapshot=1"

ask() { curl -sS --fail-with-body ${NETRC:+--netrc-file "$NETRC"} "$@"; } # NETRC: the login for a private repository
message() { tr -cd '[:print:]' | sed -n 's/.*"message":"\([^"]*\)".*/\1/p'; } # of an error of the registry
failed() { echo "follow.sh: $1: ${2:-no answer}" >&2; }

deploy() {
  rm -f "$kernel.new" "$kernel.etag.new"
  ask -m 600 --etag-compare "$kernel.etag" --etag-save "$kernel.etag.new" -D "$kernel.head" -o "$kernel.new" "$image" ||
    { failed "$image" "$(head -c 2000 "$kernel.new" 2>/dev/null | message)"; return 1; }
  [ -s "$kernel.new" ] || { grep -q '^HTTP/[0-9.]* 304' "$kernel.head"; return; } # not changed, or broken off in the headers
  digest=$(sed -n 's/^docker-content-digest: sha256:\([0-9a-f]*\).*/\1/Ip' "$kernel.head")
  echo "$digest  $kernel.new" | sha256sum -c --status || { failed "$image" 'wrong digest'; return 1; }
  mv "$kernel.new" "$kernel" && systemctl restart "unikernel@$name" && mv "$kernel.etag.new" "$kernel.etag"
}

while due=1; do
  ask -N --speed-limit 1 --speed-time 60 -H 'Accept: text/event-stream' "$events" |
    while read -r line || [ "$line" ]; do # a comment arrives every 15 seconds: a failed deploy is retried then
      case $line in event:*) due=1 ;; '{"errors"'*) failed "$events" "$(echo "$line" | message)" ;; esac
      [ "$due" ] && deploy && due=
    done
  sleep "${WAIT_SECONDS:-5}"
done
