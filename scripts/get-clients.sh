#!/usr/bin/env bash
# Fetches oras (Debian 13's package) and skopeo (Debian 12's) into .cache/clients/bin, from the Debian
# mirror of this machine. It installs nothing into the system, and does nothing when it runs again.
#   CLIENTS_DIR=folder     another folder than .cache/clients
#   USE_SYSTEM_CLIENTS=1   links to the oras and skopeo on PATH, and fetches nothing
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
CLIENTS=${CLIENTS_DIR:-$PWD/.cache/clients}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
FETCH_SECONDS_MAX=120
LEFTOVER_MINUTES=60
MARK=made-by-get-clients

fail() {
  printf 'get-clients: %s\n' "$*" >&2
  exit 1
}

works() { "$CLIENTS/bin/oras" version >/dev/null 2>&1 && "$CLIENTS/bin/skopeo" --version >/dev/null 2>&1; }

if works; then
  printf 'oras and skopeo are in %s\n' "$CLIENTS/bin"
  exit 0
fi

# The script replaces the whole folder, so the folder must be its own.
if [ -n "$(ls -A "$CLIENTS" 2>/dev/null)" ] && ! [ -e "$CLIENTS/$MARK" ]; then
  fail "$CLIENTS has other files: remove it, or choose another folder with CLIENTS_DIR"
fi

# Files are made aside and moved into place; a run that was killed may have left its folder.
mkdir -p "$(dirname "$CLIENTS")"
find "$(dirname "$CLIENTS")" -maxdepth 1 -name 'rookery-clients.??????' -mmin "+$LEFTOVER_MINUTES" -exec rm -rf {} +
WORK=$(mktemp -d "$(dirname "$CLIENTS")/rookery-clients.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK/made/bin"
touch "$WORK/made/$MARK"

move_into_place() {
  rm -rf "$CLIENTS"
  mv "$WORK/made" "$CLIENTS"
  works || fail "the clients in $CLIENTS/bin do not run"
  printf 'oras and skopeo are in %s\n' "$CLIENTS/bin"
}

if [ "${USE_SYSTEM_CLIENTS:-}" = 1 ]; then
  for client in oras skopeo; do
    path=$(command -v "$client") || fail "USE_SYSTEM_CLIENTS=1, but $client is not on PATH"
    ln -s "$path" "$WORK/made/bin/$client"
  done
  move_into_place
  exit 0
fi
for tool in dpkg dpkg-deb curl xz sha256sum; do
  command -v "$tool" >/dev/null ||
    fail "needs $tool (this fetches Debian packages; elsewhere install oras and skopeo yourself and set USE_SYSTEM_CLIENTS=1)"
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

# verify SUITE: writes the signed text of the suite's release. At least one signature must be by a key of
# this machine (an older keyring may not have the newest suite's), and none may be wrong. Text outside of
# the signed part is left out.
verify() {
  local suite=$1
  if ! command -v gpgv >/dev/null || ! [ -r "$KEYRING" ]; then
    printf 'get-clients: without gpgv and %s the signature of %s is not checked\n' "$KEYRING" "$suite" >&2
    mv "$WORK/$suite.InRelease" "$WORK/$suite.Release"
    return 0
  fi
  gpgv --keyring "$KEYRING" --status-fd 1 --output "$WORK/$suite.Release" "$WORK/$suite.InRelease" \
    >"$WORK/status" 2>/dev/null || true
  grep -q '^\[GNUPG:\] BADSIG ' "$WORK/status" && fail "the release of $suite has a bad signature"
  grep -q '^\[GNUPG:\] GOODSIG ' "$WORK/status" ||
    fail "the release of $suite is not signed by a key in $KEYRING"
}

# index SUITE: fetches the list of the suite's packages, and checks it against the signed release.
index() {
  local suite=$1 path="main/binary-$ARCHITECTURE/Packages.xz" expected
  fetch "$MIRROR/dists/$suite/InRelease" "$WORK/$suite.InRelease"
  verify "$suite"
  expected=$(sed -n '/^SHA256:/,$p' "$WORK/$suite.Release" | awk -v path="$path" '$3 == path && !seen { print $1; seen = 1 }')
  [ -n "$expected" ] || fail "the release of $suite does not list $path"
  fetch "$MIRROR/dists/$suite/$path" "$WORK/$suite.xz"
  printf '%s  %s\n' "$expected" "$WORK/$suite.xz" | sha256sum --status --check || fail "$path of $suite differs from its release"
  xz -dc "$WORK/$suite.xz" >"$WORK/$suite.packages"
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
  printf '%s  %s\n' "$sum" "$WORK/$package.deb" | sha256sum --status --check || fail "$package differs from the list of $suite"
  mkdir -p "$folder"
  dpkg-deb -x "$WORK/$package.deb" "$folder"
}

MIRROR=$(find_mirror) || fail 'no Debian mirror in the sources of apt answers'
index trixie
index bookworm
unpack trixie oras "$WORK/made/oras"
unpack bookworm skopeo "$WORK/made/skopeo"
# Libraries that skopeo needs and that may be missing on this machine.
for library in libgpgme11 libassuan0 libgpg-error0 libdevmapper1.02.1; do
  unpack bookworm "$library" "$WORK/made/skopeo"
done
ln -s ../oras/usr/bin/oras "$WORK/made/bin/oras"
cat >"$WORK/made/bin/skopeo" <<'SKOPEO'
#!/bin/sh
root=$(cd "$(dirname "$(readlink -f "$0")")/../skopeo" && pwd)
for folder in "$root"/lib/*-linux-gnu* "$root"/usr/lib/*-linux-gnu*; do
  LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
done
export LD_LIBRARY_PATH
exec "$root/usr/bin/skopeo" "$@"
SKOPEO
chmod +x "$WORK/made/bin/skopeo"
move_into_place
