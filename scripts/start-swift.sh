#!/usr/bin/env bash
# Runs a real S3 server for tests: OpenStack Swift with its s3api middleware, one device and one replica.
# It stays in the foreground; when it is ready it prints one line of JSON:
#   {"endpoint":"http://127.0.0.1:7490","accessKeyId":"…","secretAccessKey":"…"}
# SIGTERM, or the end of its standard input when --until-eof is given, stops all of it.
#   scripts/start-swift.sh [--until-eof] FOLDER PORT
# Needs Debian's swift-proxy, swift-account, swift-container, swift-object and python3-swift; not root. FOLDER's
# filesystem must have user extended attributes.
set -euo pipefail
export LC_ALL=C
PREPARE_SECONDS_MAX=60
START_SECONDS_MAX=60
ANSWER_SECONDS_MAX=5
PYTHON=/usr/bin/python3
PACKAGES='swift-proxy swift-account swift-container swift-object python3-swift'

fail() {
  printf 'start-swift: %s\n' "$*" >&2
  exit 1
}

# tail_of FILE: prints the end of a log as one line.
tail_of() {
  if [ -s "$1" ]; then tail -c 300 "$1" | tr '\n' ' '; else printf 'its log is empty'; fi
}

UNTIL_EOF=0
if [ "${1:-}" = --until-eof ]; then
  UNTIL_EOF=1
  shift
fi
[ "$#" -eq 2 ] || fail 'usage: scripts/start-swift.sh [--until-eof] FOLDER PORT'
mkdir -p "$1"
FOLDER=$(cd "$1" && pwd)
PORT=$2
[[ $FOLDER != *%* ]] || fail "the name of $FOLDER has a %, which has a meaning of its own in Swift's configuration"
for tool in swift-proxy-server swift-account-server swift-container-server swift-object-server; do
  [ -x "/usr/bin/$tool" ] || fail "needs $tool: apt-get install --no-install-recommends $PACKAGES"
done
"$PYTHON" -E -c 'import swift' 2>/dev/null || fail "$PYTHON has no swift: apt-get install --no-install-recommends $PACKAGES"

PIDS=()
stop() {
  trap - EXIT INT TERM
  # The proxy first: it still writes to the others.
  local index
  for ((index = ${#PIDS[@]} - 1; index >= 0; index--)); do kill -KILL "${PIDS[index]}" 2>/dev/null || true; done
  wait 2>/dev/null || true
}
trap stop EXIT
trap 'exit 0' INT TERM

mkdir -p "$FOLDER/etc" "$FOLDER/lib" "$FOLDER/log" "$FOLDER/cache" "$FOLDER/devices/d1"

# Checks the preconditions before any server starts, builds the rings, and prints the ports of the storage servers.
cat >"$FOLDER/lib/prepare.py" <<'PYTHON'
import os
import socket
import sys

from swift.common.ring import RingBuilder

folder, port = sys.argv[1], sys.argv[2]


def bound(number):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", number))
    return listener


probe = os.path.join(folder, "devices", "probe")
open(probe, "wb").close()
try:
    os.setxattr(probe, "user.swift.probe", b"1")
except OSError as error:
    sys.exit("the filesystem of %s has no user extended attributes, which Swift needs: %s" % (folder, error.strerror))
finally:
    os.unlink(probe)
try:
    listeners = [bound(int(port))]
except (OSError, OverflowError, ValueError) as error:
    sys.exit("cannot listen on port %s: %s" % (port, error))
for name in ("account", "container", "object"):
    listener = bound(0)
    listeners.append(listener)
    number = listener.getsockname()[1]
    builder = RingBuilder(6, 1, 0)
    builder.add_dev({
        "region": 1, "zone": 1, "device": "d1", "weight": 1, "meta": "",
        "ip": "127.0.0.1", "port": number, "replication_ip": "127.0.0.1", "replication_port": number,
    })
    builder.rebalance()
    builder.get_ring().save(os.path.join(folder, "etc", name + ".ring.gz"))
    print(number)
PYTHON

# Runs a server with its swift.conf below FOLDER. It is also the proxy's cache: tempauth requires one, and an empty one
# replaces a memcached.
cat >"$FOLDER/lib/launch.py" <<'PYTHON'
class NoCache:
    def get(self, key, **options):
        return None

    def get_multi(self, keys, server_key, **options):
        return [None for _ in keys]

    def set(self, key, value, **options):
        pass

    def set_multi(self, mapping, server_key, **options):
        pass

    def delete(self, key, **options):
        pass

    def incr(self, key, delta=1, **options):
        return delta

    def decr(self, key, delta=1, **options):
        return 0


def no_cache(global_conf, **local_conf):
    def filtered(app):
        def answer(env, start_response):
            env["swift.cache"] = NoCache()
            return app(env, start_response)
        return answer
    return filtered


if __name__ == "__main__":
    import runpy
    import sys

    from swift.common.utils import set_swift_dir

    set_swift_dir(sys.argv[1])
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")
PYTHON

PORTS=$(timeout "$PREPARE_SECONDS_MAX" "$PYTHON" -E -B "$FOLDER/lib/prepare.py" "$FOLDER" "$PORT" 2>"$FOLDER/log/prepare.out") ||
  fail "$(tail_of "$FOLDER/log/prepare.out")"
read -r ACCOUNT_PORT CONTAINER_PORT OBJECT_PORT <<<"${PORTS//$'\n'/ }"
ACCOUNT=rookery
USER_NAME=$(od -An -N10 -tx1 /dev/urandom | tr -d ' \n')
SECRET=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')

cat >"$FOLDER/etc/swift.conf" <<CONF
[swift-hash]
swift_hash_path_suffix = rookery
[storage-policy:0]
name = default
default = yes
CONF

# common PORT: prints the beginning of each server's file. Logs go to standard error; no syslog listens at the port.
common() {
  cat <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $1
bind_timeout = 1
workers = 0
user = $(id -un)
swift_dir = $FOLDER/etc
devices = $FOLDER/devices
mount_check = false
fallocate_reserve = 0
log_udp_host = 127.0.0.1
log_udp_port = 9
conn_timeout = 10
node_timeout = 60
container_update_timeout = 60
CONF
}

for server in account container object; do
  port=${server^^}_PORT
  common "${!port}" >"$FOLDER/etc/$server.conf"
  cat >>"$FOLDER/etc/$server.conf" <<CONF
log_level = WARNING
[pipeline:main]
pipeline = healthcheck $server-server
[filter:healthcheck]
use = egg:swift#healthcheck
[app:$server-server]
use = egg:swift#$server
recon_cache_path = $FOLDER/cache
CONF
done
common "$PORT" >"$FOLDER/etc/proxy.conf"
cat >>"$FOLDER/etc/proxy.conf" <<CONF
log_level = INFO
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats s3api tempauth copy slo dlo versioned_writes symlink proxy-logging proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
paste.filter_factory = launch:no_cache
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
min_segment_size = 5242880
max_upload_part_num = 10000
[filter:tempauth]
use = egg:swift#tempauth
user_${ACCOUNT}_$USER_NAME = $SECRET .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
# No expirer runs that would do it later.
allow_async_delete = false
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
# There is no other replica.
error_suppression_limit = 1000000000
CONF

NAMES=(account container object proxy)
SERVER_PORTS=("$ACCOUNT_PORT" "$CONTAINER_PORT" "$OBJECT_PORT" "$PORT")
for name in "${NAMES[@]}"; do
  "$PYTHON" -E -B "$FOLDER/lib/launch.py" "$FOLDER/etc" "/usr/bin/swift-$name-server" "$FOLDER/etc/$name.conf" -v \
    </dev/null >"$FOLDER/log/$name.out" 2>&1 &
  PIDS+=($!)
done

healthy() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'GET /healthcheck HTTP/1.0\r\n\r\n' >&3 &&
      IFS= read -r -t "$ANSWER_SECONDS_MAX" line <&3 && [[ $line == *' 200 '* ]]
  ) 2>/dev/null
}

check_alive() {
  kill -0 "${PIDS[$1]}" 2>/dev/null || fail "the ${NAMES[$1]} server ended: $(tail_of "$FOLDER/log/${NAMES[$1]}.out")"
}

SECONDS=0
for index in "${!NAMES[@]}"; do
  until healthy "${SERVER_PORTS[index]}"; do
    check_alive "$index"
    [ "$SECONDS" -lt "$START_SECONDS_MAX" ] || fail "the ${NAMES[index]} server does not answer after $START_SECONDS_MAX s"
    sleep 0.05
  done
  check_alive "$index"
done
printf '{"endpoint":"http://127.0.0.1:%s","accessKeyId":"%s","secretAccessKey":"%s"}\n' "$PORT" "$ACCOUNT:$USER_NAME" "$SECRET"
if [ "$UNTIL_EOF" -eq 1 ]; then
  # The input of a background command is /dev/null unless the command names another.
  cat <&0 >/dev/null &
  PIDS+=($!)
fi
{ wait -n || true; } 2>/dev/null
for index in "${!NAMES[@]}"; do check_alive "$index"; done
