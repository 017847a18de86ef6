#!/bin/sh
# follow.sh REGISTRY REPOSITORY TAG TARGET NAME: runs the kernel of a tag, and follows the tag.
set -u
registry=$1 repository=$2 tag=$3 target=$4 name=$5
kernel=${STATE_DIRECTORY:-/var/lib/unikernels}/$name.$target

ask() { curl -fsS ${NETRC:+--netrc-file "$NETRC"} "$@"; } # NETRC: the login for a private repository

deploy() {
  rm -f "$kernel.new" "$kernel.etag.new"
  ask -m 600 --etag-compare "$kernel.etag" --etag-save "$kernel.etag.new" -D "$kernel.head" -o "$kernel.new" \
    "$registry/api/v1/repositories/$repository/images/$tag/kernel?target=$target" || return 1
  [ -s "$kernel.new" ] || return 0 # not changed
  digest=$(sed -n 's/^docker-content-digest: sha256:\([0-9a-f]*\).*/\1/Ip' "$kernel.head")
  echo "$digest  $kernel.new" | sha256sum -c --status || return 1
  mv "$kernel.new" "$kernel" && systemctl restart "unikernel@$name" && mv "$kernel.etag.new" "$kernel.etag"
}

while :; do
  ask -N --speed-limit 1 --speed-time 60 -H 'Accept: text/event-stream' \
    "$registry/api/v1/events?repository=$repository&tag=$tag&snapshot=1" |
    while read -r line; do # a comment arrives every 15 seconds: a failed deploy is retried then
      case $line in event:*) due=1 ;; esac
      [ "${due:-}" ] && deploy && due=
    done
  sleep "${WAIT_SECONDS:-5}"
done
