import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * The part of systemd that the agent uses, for machines without it: `systemctl restart`, `stop` and `show` for
 * unikernel@NAME, which restarts its process 100 ms after a failure, and `journalctl`. The properties of `show` and the
 * lines of the journal are those of systemd 252.
 */
const SYSTEMCTL = `#!/bin/sh
set -u
command=$1
for unit; do :; done
d=$SERVICES/$unit
mkdir -p "$d"
end() {
  [ ! -f "$d/manager" ] || kill -KILL "$(cat "$d/manager")" 2>/dev/null
  [ ! -f "$d/main" ] || kill -KILL "$(cat "$d/main")" 2>/dev/null
  rm -f "$d/manager" "$d/main"
}
show() { # ACTIVE SUB RESTARTS CODE STATUS
  printf 'NRestarts=%s\\nExecMainCode=%s\\nExecMainStatus=%s\\nActiveState=%s\\nSubState=%s\\n' "$3" "$4" "$5" "$1" "$2" > "$d/new"
  mv "$d/new" "$d/show"
}
case $command in
  restart)
    end
    : > "$d/journal"
    show activating start 0 0 0
    setsid "$0" manage "$unit" </dev/null >/dev/null 2>&1 &
    while [ ! -f "$d/main" ]; do sleep 0.05; done ;;
  stop)
    end
    show inactive dead 0 1 0 ;;
  show) cat "$d/show" 2>/dev/null || printf 'NRestarts=0\\nExecMainStatus=0\\nActiveState=inactive\\nSubState=dead\\n' ;;
  manage)
    echo $$ > "$d/manager"
    restarts=0
    while :; do
      sh -c "$(cat "$SERVICES/exec-start")" >> "$d/journal" 2>&1 &
      echo $! > "$d/main"
      show active running "$restarts" 0 0
      wait $!
      status=$?
      echo "$unit.service: Main process exited, code=exited, status=$status/n/a" >> "$d/journal"
      [ "$status" != 0 ] || { show inactive dead "$restarts" 1 0; exit; }
      show activating auto-restart "$restarts" 1 "$status"
      sleep 0.1
      restarts=$((restarts + 1))
      echo "$unit.service: Scheduled restart job, restart counter is at $restarts." >> "$d/journal"
    done ;;
esac
`

const JOURNALCTL = `#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in -u) unit=$2 ;; -n) lines=$2 ;; esac
  shift
done
tail -n "$lines" "$SERVICES/$unit/journal"
`

/** Writes the programs into a folder, and returns the environment in which the agent uses them. */
export async function installServiceManager(
  folder: string,
  execStart: string,
): Promise<Record<string, string>> {
  const [programs, services] = [join(folder, 'bin'), join(folder, 'services')]
  await mkdir(programs)
  await mkdir(services)
  await writeFile(join(services, 'exec-start'), execStart)
  await writeFile(join(programs, 'systemctl'), SYSTEMCTL, { mode: 0o755 })
  await writeFile(join(programs, 'journalctl'), JOURNALCTL, { mode: 0o755 })
  return { PATH: `${programs}:${process.env.PATH}`, SERVICES: services }
}
