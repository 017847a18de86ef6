#!/usr/bin/env bash
# Fetches oras (Debian 13's package) and skopeo (Debian 12's) into .cache/clients/bin, from the Debian
# mirror that this machine uses itself. Nothing is installed into the system. A second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
CLIENTS=${CLIENTS_DIR:-$PWD/.cache/clients}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
FETCH_SECONDS_MAX=120

fail() {
  printf 'get-clients: %s\n' "$*" >&2
  exit 1
}

works() { "$CLIENTS/bin/oras" version >/dev/null 2>&1 && "$CLIENTS/bin/skopeo" --version >/dev/null 2>&1; }

if works; then
  printf 'oras and skopeo are in %s\n' "$CLIENTS/bin"
  exit 0
fi
for tool in dpkg dpkg-deb curl xz sha256sum; do
  command -v "$tool" >/dev/null ||
    fail "needs $tool (this fetches Debian packages; elsewhere install oras and skopeo yourself and put links into $CLIENTS/bin)"
done
ARCHITECTURE=$(dpkg --print-architecture)

# The first mirror of Debian itself in the machine's own sources: deb822 files, then classic lines.
find_mirror() {
  local uri
  for uri in $(
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs:[[:space:]]*//p' | tr ' ' '\n'
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
      sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p'
  ); do
    case $uri in
      *-security* | cdrom:*) continue ;;
    esac
    if curl -fsS --max-time 20 -o /dev/null "${uri%/}/dists/trixie/InRelease" 2>/dev/null; then
      printf '%s\n' "${uri%/}"
      return 0
    fi
  done
  return 1
}

fetch() {
  curl -fsS --retry 3 --max-time "$FETCH_SECONDS_MAX" -o "$2" "$1" || fail "cannot fetch $1"
}

# index SUITE: the list of the suite's packages, checked against the signed release.
index() {
  local suite=$1 path="main/binary-$ARCHITECTURE/Packages.xz" expected
  fetch "$MIRROR/dists/$suite/InRelease" "$WORK/$suite.InRelease"
  if command -v gpgv >/dev/null && [ -r "$KEYRING" ]; then
    gpgv --quiet --keyring "$KEYRING" "$WORK/$suite.InRelease" >/dev/null 2>"$WORK/gpgv" ||
      warn_signature "$suite"
  else
    printf 'get-clients: without gpgv the signature of %s is not checked\n' "$suite" >&2
  fi
  expected=$(sed -n '/^SHA256:/,$p' "$WORK/$suite.InRelease" | awk -v path="$path" '$3 == path && !seen { print $1; seen = 1 }')
  [ -n "$expected" ] || fail "the release of $suite does not list $path"
  fetch "$MIRROR/dists/$suite/$path" "$WORK/$suite.xz"
  printf '%s  %s\n' "$expected" "$WORK/$suite.xz" | sha256sum --check --quiet || fail "$path of $suite is not what its release says"
  xz -dc "$WORK/$suite.xz" >"$WORK/$suite.packages"
}

# An older machine's keyring may lack the newest suite's key; a wrong signature is still refused.
warn_signature() {
  grep -q 'Good signature' "$WORK/gpgv" && return 0
  grep -q 'BAD signature' "$WORK/gpgv" && fail "the release of $1 has a bad signature"
  printf 'get-clients: this machine has no key for the signature of %s\n' "$1" >&2
}

# unpack SUITE PACKAGE FOLDER: fetches the package, checks it, and unpacks it there.
unpack() {
  local suite=$1 package=$2 folder=$3 file sum
  read -r file sum < <(awk -v RS= -v package="$package" '
    $1 == "Package:" && $2 == package {
      for (i = 1; i < NF; i++) { if ($i == "Filename:") file = $(i + 1); if ($i == "SHA256:") sum = $(i + 1) }
      print file, sum; exit
    }' "$WORK/$suite.packages") || fail "$suite has no package $package for $ARCHITECTURE"
  fetch "$MIRROR/$file" "$WORK/$package.deb"
  printf '%s  %s\n' "$sum" "$WORK/$package.deb" | sha256sum --check --quiet || fail "$package is not what $suite says"
  mkdir -p "$folder"
  dpkg-deb -x "$WORK/$package.deb" "$folder"
}

mkdir -p "$(dirname "$CLIENTS")"
WORK=$(mktemp -d "$(dirname "$CLIENTS")/clients.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
MIRROR=$(find_mirror) || fail 'no Debian mirror in the sources of apt answers'
index trixie
index bookworm
unpack trixie oras "$WORK/made/oras"
unpack bookworm skopeo "$WORK/made/skopeo"
# Libraries that skopeo needs and that this machine may lack.
for library in libgpgme11 libassuan0 libgpg-error0 libdevmapper1.02.1; do
  unpack bookworm "$library" "$WORK/made/skopeo"
done
mkdir -p "$WORK/made/bin"
ln -s ../oras/usr/bin/oras "$WORK/made/bin/oras"
cat >"$WORK/made/bin/skopeo" <<'SKOPEO'
#!/bin/sh
root=$(cd "$(dirname "$0")/../skopeo" && pwd)
for folder in "$root"/lib/*-linux-gnu* "$root"/usr/lib/*-linux-gnu*; do
  LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
done
export LD_LIBRARY_PATH
exec "$root/usr/bin/skopeo" "$@"
SKOPEO
chmod +x "$WORK/made/bin/skopeo"
rm -rf "$CLIENTS"
mv "$WORK/made" "$CLIENTS"
works || fail "the clients in $CLIENTS/bin do not run"
printf 'oras and skopeo are in %s\n' "$CLIENTS/bin"
