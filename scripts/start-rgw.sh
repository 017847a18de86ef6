#!/usr/bin/env bash
# Runs a real S3 server for tests: Ceph's RADOS gateway on a monitor and one storage daemon that keeps
# everything in memory. It stays in the foreground; when it is ready it prints one line of JSON:
#   {"endpoint":"http://127.0.0.1:7480","accessKeyId":"…","secretAccessKey":"…"}
# SIGTERM, or the end of its standard input when --until-eof is given, stops all of it.
#   scripts/start-rgw.sh [--until-eof] FOLDER PORT
# Needs Debian's radosgw, ceph-mon, ceph-osd and ceph-common; not root.
set -euo pipefail
export LC_ALL=C
START_SECONDS_MAX=60
MEMORY_BYTES=${RGW_MEMORY_BYTES:-8589934592}

fail() {
  printf 'start-rgw: %s\n' "$*" >&2
  exit 1
}

UNTIL_EOF=0
if [ "${1:-}" = --until-eof ]; then
  UNTIL_EOF=1
  shift
fi
[ "$#" -eq 2 ] || fail 'usage: scripts/start-rgw.sh [--until-eof] FOLDER PORT'
# Background processes get no standard input of their own.
exec 4<&0 </dev/null
mkdir -p "$1"
FOLDER=$(cd "$1" && pwd)
PORT=$2
for tool in ceph ceph-authtool monmaptool ceph-mon ceph-osd radosgw radosgw-admin; do
  command -v "$tool" >/dev/null ||
    fail "needs $tool: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common"
done

free_port() {
  node -e 'const s = require("node:net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })'
}

PIDS=()
stop() {
  trap - EXIT INT TERM
  # The gateway first: it still writes to the others.
  local index
  for ((index = ${#PIDS[@]} - 1; index >= 0; index--)); do kill -KILL "${PIDS[index]}" 2>/dev/null || true; done
  wait 2>/dev/null || true
}
trap stop EXIT
trap 'exit 0' INT TERM

MON_PORT=$(free_port)
FSID=$(cat /proc/sys/kernel/random/uuid)
OSD_UUID=$(cat /proc/sys/kernel/random/uuid)
mkdir -p "$FOLDER/mon" "$FOLDER/osd" "$FOLDER/run" "$FOLDER/log"
CONF=$FOLDER/ceph.conf
cat >"$CONF" <<CONF
[global]
fsid = $FSID
mon host = v2:127.0.0.1:$MON_PORT
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = $FOLDER/\$name.keyring
run dir = $FOLDER/run
admin socket = $FOLDER/run/\$name.asok
pid file =
log file = $FOLDER/log/\$name.log
log to stderr = false
crash dir = $FOLDER
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon allow pool delete = true
mon max pg per osd = 1000
mon data avail crit = 0
paxos propose interval = 0.01
paxos min wait = 0.01
mon osd full ratio = 0.99
ms bind ipv6 = false
[mon.a]
mon data = $FOLDER/mon
mon addr = v2:127.0.0.1:$MON_PORT
[osd.0]
osd data = $FOLDER/osd
osd objectstore = memstore
memstore device bytes = $MEMORY_BYTES
osd max write size = 512
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$PORT tcp_nodelay=1
rgw data = $FOLDER
rgw thread pool size = 64
rgw gc obj min wait = 1
rgw enable usage log = false
rgw enable ops log = false
CONF

ceph-authtool --create-keyring "$FOLDER/client.admin.keyring" --gen-key -n client.admin \
  --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
ceph-authtool --create-keyring "$FOLDER/mon.keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
for name in client.rgw osd.0; do
  caps=(--cap mon 'allow *' --cap osd 'allow *')
  ceph-authtool --create-keyring "$FOLDER/$name.keyring" --gen-key -n "$name" "${caps[@]}" >/dev/null
done
for name in client.admin client.rgw; do
  ceph-authtool "$FOLDER/mon.keyring" --import-keyring "$FOLDER/$name.keyring" >/dev/null
done
monmaptool --create --clobber --fsid "$FSID" --addv a "[v2:127.0.0.1:$MON_PORT]" "$FOLDER/monmap" >/dev/null
ceph-mon -c "$CONF" --mkfs -i a --monmap "$FOLDER/monmap" --keyring "$FOLDER/mon.keyring" >/dev/null
ceph-mon -c "$CONF" -i a -f >"$FOLDER/log/mon.out" 2>&1 &
PIDS+=($!)
printf '{"cephx_secret": "%s"}' "$(ceph-authtool -p -n osd.0 "$FOLDER/osd.0.keyring")" >"$FOLDER/osd-secret.json"
timeout "$START_SECONDS_MAX" ceph -c "$CONF" osd new "$OSD_UUID" 0 -i "$FOLDER/osd-secret.json" >/dev/null 2>"$FOLDER/log/new.out" ||
  fail "the monitor does not answer: $(tail -c 300 "$FOLDER/log/new.out")"
cp "$FOLDER/osd.0.keyring" "$FOLDER/osd/keyring"
ceph-osd -c "$CONF" -i 0 --mkfs --osd-uuid "$OSD_UUID" >"$FOLDER/log/mkfs.out" 2>&1 || fail "$(tail -c 300 "$FOLDER/log/mkfs.out")"
ceph-osd -c "$CONF" -i 0 -f >"$FOLDER/log/osd.out" 2>&1 &
PIDS+=($!)
radosgw -c "$CONF" -n client.rgw -f >"$FOLDER/log/rgw.out" 2>&1 &
RGW=$!
PIDS+=("$RGW")

# Each server answers once the one below it does.
for ((try = 0; ; try++)); do
  (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null && break
  kill -0 "$RGW" 2>/dev/null || fail "the gateway ended: $(tail -c 300 "$FOLDER/log/rgw.out")"
  [ "$try" -lt $((START_SECONDS_MAX * 20)) ] || fail "the gateway does not listen after $START_SECONDS_MAX s"
  sleep 0.05
done
ACCESS=$(od -An -N10 -tx1 /dev/urandom | tr -d ' \n')
SECRET=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')
timeout "$START_SECONDS_MAX" radosgw-admin -c "$CONF" -n client.rgw user create --uid rookery --display-name rookery \
  --access-key "$ACCESS" --secret-key "$SECRET" >/dev/null 2>"$FOLDER/log/user.out" ||
  fail "cannot make a user: $(tail -c 300 "$FOLDER/log/user.out")"
printf '{"endpoint":"http://127.0.0.1:%s","accessKeyId":"%s","secretAccessKey":"%s"}\n' "$PORT" "$ACCESS" "$SECRET"
if [ "$UNTIL_EOF" -eq 1 ]; then
  cat <&4 >/dev/null &
  PIDS+=($!)
fi
wait -n || true
