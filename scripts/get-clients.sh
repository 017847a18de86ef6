#!/usr/bin/env bash
# Fetches the clients of the tests from the Debian mirror of this machine into .cache/clients/bin. It installs nothing
# into the system, and does nothing when it runs again.
#   CLIENTS_DIR=folder     another folder than .cache/clients
#   USE_SYSTEM_CLIENTS=1   links to the clients on PATH, names the missing ones, and fetches nothing
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
CLIENTS=$(realpath -m "${CLIENTS_DIR:-.cache/clients}")
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
FETCH_SECONDS_MAX=300
FETCHES_MAX=8
LEFTOVER_MINUTES=60
MARK=made-by-get-clients

# One row for each client: the suite of Debian, its libraries, its packages, and its programs (name, or name=path).
#   system    the program needs only the C library of this machine
#   own       the libraries that its packages depend on are fetched too, except the C library
#   own+libc  the C library too: the program needs a newer one than Debian 12's. It runs in a mount namespace of its
#             own, which has these libraries in the place of the system's; without root in a user namespace
TABLE='
forky     system    oras                          oras
bookworm  own       skopeo                        skopeo
forky     system    crane                         crane
forky     system    umoci                         umoci
forky     system    notation                      notation
forky     system    cosign                        cosign
trixie    own+libc  podman,conmon,crun,netavark,buildah  podman,buildah
trixie    system    containerd                    containerd,ctr,containerd-shim-runc-v2
bookworm  own       runc                          runc
bookworm  system    webhook                       webhook
forky     own       docker.io,docker-cli,docker-buildx,docker-compose  dockerd,docker,docker-buildx=usr/libexec/docker/cli-plugins/docker-buildx,docker-compose=usr/libexec/docker/cli-plugins/docker-compose
sid       own+libc  apptainer,squashfs-tools      apptainer,mksquashfs
'

fail() {
  printf 'get-clients: %s\n' "$*" >&2
  exit 1
}

# rows: the rows of the table as words. programs: the names of all programs.
rows() { printf '%s' "$TABLE" | sed '/^[[:space:]]*$/d'; }
programs() { rows | awk '{ gsub(",", "\n", $4); print $4 }' | sed 's/=.*//'; }

# runs PROGRAM: the program starts and states its version.
runs() {
  local program=$CLIENTS/bin/$1
  [ -x "$program" ] &&
    { "$program" --version || "$program" version || "$program" -v || "$program" -version | grep -q version; } \
      >/dev/null 2>&1 </dev/null
}

case $CLIENTS in
  *[!A-Za-z0-9/._+@-]*) fail "scripts and lists of libraries cannot name the folder $CLIENTS: choose another one with CLIENTS_DIR" ;;
esac

# A folder is up to date when this very script made it at this place and every client runs.
state() { printf '%s %s %s\n' "$CLIENTS" "${USE_SYSTEM_CLIENTS:-0}" "$(cksum <scripts/get-clients.sh)"; }
is_complete() {
  local program
  [ "$(cat "$CLIENTS/$MARK" 2>/dev/null)" = "$(state)" ] || return 1
  for program in $(ls "$CLIENTS/bin"); do runs "$program" || return 1; done
}

if is_complete; then
  printf 'the clients are in %s\n' "$CLIENTS/bin"
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
mkdir -p "$WORK/made/bin" "$WORK/debs"
state >"$WORK/made/$MARK"

move_into_place() {
  local program broken=
  rm -rf "$CLIENTS"
  mv "$WORK/made" "$CLIENTS"
  for program in $(ls "$CLIENTS/bin"); do runs "$program" || broken+=" $program"; done
  [ -z "$broken" ] || fail "these clients in $CLIENTS/bin do not run:$broken"
  printf 'the clients are in %s: %s\n' "$CLIENTS/bin" "$(ls "$CLIENTS/bin" | tr '\n' ' ')"
}

if [ "${USE_SYSTEM_CLIENTS:-}" = 1 ]; then
  missing=
  for program in $(programs); do
    if path=$(command -v "$program"); then ln -s "$path" "$WORK/made/bin/$program"; else missing+=" $program"; fi
  done
  [ -n "$(ls "$WORK/made/bin")" ] || fail "USE_SYSTEM_CLIENTS=1, but none of the clients is on PATH:$missing"
  [ -z "$missing" ] || printf 'get-clients: not on PATH, so their tests are skipped:%s\n' "$missing" >&2
  move_into_place
  exit 0
fi
for tool in dpkg dpkg-deb curl xz sha256sum; do
  command -v "$tool" >/dev/null ||
    fail "needs $tool (this fetches Debian packages; elsewhere install the clients yourself and set USE_SYSTEM_CLIENTS=1)"
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
    >"$WORK/$suite.status" 2>/dev/null || true
  grep -q '^\[GNUPG:\] BADSIG ' "$WORK/$suite.status" && fail "the release of $suite has a bad signature"
  grep -q '^\[GNUPG:\] GOODSIG ' "$WORK/$suite.status" ||
    fail "the release of $suite is not signed by a key in $KEYRING: install a newer debian-archive-keyring"
}

# index SUITE: fetches the list of the suite's packages by its digest in the signed release, and writes a line for each
# package: name, file, SHA-256, dependencies.
index() {
  local suite=$1 folder="main/binary-$ARCHITECTURE" expected
  fetch "$MIRROR/dists/$suite/InRelease" "$WORK/$suite.InRelease"
  verify "$suite"
  expected=$(sed -n '/^SHA256:/,$p' "$WORK/$suite.Release" |
    awk -v path="$folder/Packages.xz" '$3 == path && !seen { print $1; seen = 1 }')
  [ -n "$expected" ] || fail "the release of $suite does not list $folder/Packages.xz"
  fetch "$MIRROR/dists/$suite/$folder/by-hash/SHA256/$expected" "$WORK/$suite.xz"
  printf '%s  %s\n' "$expected" "$WORK/$suite.xz" | sha256sum --status --check ||
    fail "the list of packages of $suite differs from its release"
  xz -dc "$WORK/$suite.xz" | awk -v RS= -F '\n' -v OFS='\t' '
    {
      split("", field)
      for (i = 1; i <= NF; i++) {
        name = substr($i, 1, index($i, ": "))
        if (name ~ /^(Package|Filename|SHA256|Depends):$/) field[name] = substr($i, length(name) + 2)
      }
      print field["Package:"], field["Filename:"], field["SHA256:"], field["Depends:"]
    }' >"$WORK/$suite.packages"
}

# closure SUITE LIBRARIES PACKAGES: the lines "name file SHA-256" of the packages, and of the libraries that they need:
# the first alternative of each dependency whose name is a library's.
closure() {
  awk -F '\t' -v libraries="$2" -v packages="$3" -v suite="$1" '
    { file[$1] = $2; sum[$1] = $3; dependencies[$1] = $4 }
    END {
      count = split(packages, queue, ",")
      for (i = 1; i <= count; i++) {
        if (!(queue[i] in file)) { print suite " has no package " queue[i] >"/dev/stderr"; exit 1 }
        print queue[i], file[queue[i]], sum[queue[i]]
        if (libraries == "system") continue
        alternatives = split(dependencies[queue[i]], dependency, ", *")
        for (j = 1; j <= alternatives; j++) {
          split(dependency[j], word, /[ |(:]/)
          name = word[1]
          if (name !~ /^(lib|zlib1g$)/ || (name == "libc6" && libraries == "own")) continue
          if (name in seen || !(name in file)) continue
          seen[name] = 1
          queue[++count] = name
        }
      }
    }' "$WORK/$1.packages"
}

# fetch_all: fetches every package of "suite name file SHA-256" lines once, and checks them.
fetch_all() {
  awk -v mirror="$MIRROR" -v folder="$WORK/debs" '
    { printf "url = \"%s/%s\"\noutput = \"%s/%s.deb\"\n", mirror, $3, folder, $4 }' <"$WORK/wanted" >"$WORK/urls"
  curl -fsS --no-progress-meter --retry 3 --max-time "$FETCH_SECONDS_MAX" --parallel --parallel-max "$FETCHES_MAX" --config "$WORK/urls" || true
  local suite name file sum
  while read -r suite name file sum; do
    [ -s "$WORK/debs/$sum.deb" ] ||
      fail "cannot fetch $MIRROR/$file: if the mirror replaced $name of $suite in the meantime, run this again"
  done <"$WORK/wanted"
  awk -v folder="$WORK/debs" '{ print $4 "  " folder "/" $4 ".deb" }' <"$WORK/wanted" | sha256sum --quiet --check >&2 ||
    fail 'a package differs from the list of its suite'
}

# wrap LIBRARIES ROW PROGRAM PATH: writes the script that starts a program with the libraries of its row.
wrap() {
  local program=$CLIENTS/$2/$4 script=$WORK/made/bin/$3 folders system
  folders=$(cd "$WORK/made/$2" && find . -type d -name '*-linux-gnu*' -path '*lib/*' -prune | sed "s#^\.#$CLIENTS/$2#" | paste -sd:)
  if [ "$1" = own ]; then
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$folders" "$program" >"$script"
  else
    # A program names its loader by a path, and a loader works only with the C library of its version. The overlay shows
    # the newer ones in the place of the system's, to this program and its children.
    system=$(readlink -e /lib64/ld-linux-x86-64.so.2 || readlink -e /lib/ld-linux-aarch64.so.1) ||
      fail "cannot find the loader of programs for $ARCHITECTURE"
    system=$(dirname "$system")
    cat >"$script" <<SCRIPT
#!/bin/sh
[ "\$(id -u)" = 0 ] || as_root=--map-root-user
exec unshare --mount \${as_root:-} /bin/sh -c '
  mount -t overlay libraries -o lowerdir=$folders:$system $system || exit 125
  exec $program "\$@"' $3 "\$@"
SCRIPT
  fi
  chmod +x "$script"
}

MIRROR=$(find_mirror) || fail 'no Debian mirror in the sources of apt answers'
waits=()
for suite in $(rows | awk '{ print $1 }' | sort -u); do
  index "$suite" &
  waits+=($!)
done
for pid in "${waits[@]}"; do wait "$pid" || exit 1; done

while read -r suite libraries packages _; do
  closure "$suite" "$libraries" "$packages" | sed "s#^#$suite #" >>"$WORK/wanted.$packages" || fail "cannot install $packages"
done < <(rows)
cat "$WORK"/wanted.* | sort -u >"$WORK/wanted"
fetch_all

# unpack_row LIBRARIES PACKAGES PROGRAMS: unpacks the packages into the folder of the first one.
unpack_row() {
  local row=${2%%,*} program path sum
  mkdir -p "$WORK/made/$row"
  while read -r _ _ _ sum; do dpkg-deb -x "$WORK/debs/$sum.deb" "$WORK/made/$row" || return 1; done <"$WORK/wanted.$2"
  # A program that looks for its configuration beside its own folder bin finds it in usr/etc.
  [ ! -d "$WORK/made/$row/etc" ] || ln -s ../etc "$WORK/made/$row/usr/etc"
  for program in ${3//,/ }; do
    path=${program#*=}
    [ "$path" != "$program" ] || path=usr/bin/$program
    [ -e "$WORK/made/$row/$path" ] || path=usr/sbin/$program
    [ -e "$WORK/made/$row/$path" ] || fail "the package $row has no program ${program%%=*}"
    if [ "$1" = system ]; then ln -s "../$row/$path" "$WORK/made/bin/${program%%=*}"; else wrap "$1" "$row" "${program%%=*}" "$path"; fi
  done
}

waits=()
while read -r _ libraries packages names; do
  unpack_row "$libraries" "$packages" "$names" &
  waits+=($!)
done < <(rows)
for pid in "${waits[@]}"; do wait "$pid" || exit 1; done
printf 'fetched %d packages, %d MB\n' "$(wc -l <"$WORK/wanted")" \
  "$(du -cb "$WORK"/debs/*.deb "$WORK"/*.xz | awk 'END { print int($1 / 1000000) }')"
move_into_place
