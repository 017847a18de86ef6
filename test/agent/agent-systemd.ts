import { cp, mkdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ROOT } from '../house/tree.ts'
import { Systemd } from '../support/systemd.ts'
import { AGENT } from './agent-host.ts'

const UNITS = '/lib/systemd/system'
const JOURNAL = ['systemd-journald.service', 'systemd-journald.socket']

/**
 * Boots systemd with only the units of $folder/units. The machine is seen as it is, except that /run, /var/lib and
 * /usr/local/bin are empty; the folders $folder/etc and $folder/var are those of the agent.
 */
const PREPARE = `
for one in /run /var/lib /var/log /usr/local/bin; do mount -t tmpfs tmpfs $one; done
mkdir -p /run/lock /run/rookery /var/lib/rookery
mount --bind "$folder/etc" /run/rookery
mount --bind "$folder/var" /var/lib/rookery
cp "$agent" /usr/local/bin/rookery-agent
`

/**
 * Starts the service of the agent, whose folders are in `folder`, and makes `unikernel@NAME` a service that runs its kernel
 * as a shell script. Throws where systemd cannot be booted, which needs root and namespaces.
 */
export async function bootAgent(folder: string): Promise<Systemd> {
  const units = join(folder, 'units')
  await mkdir(units)
  const own = ['agent/rookery-agent.service', 'docs/examples/unikernel@.service']
  for (const path of [
    ...own.map((one) => join(ROOT, one)),
    ...JOURNAL.map((one) => join(UNITS, one)),
  ]) {
    await cp(path, join(units, basename(path)))
  }
  for (const target of ['sysinit', 'basic', 'shutdown']) {
    await writeFile(join(units, `${target}.target`), '[Unit]\n')
  }
  await writeFile(
    join(units, 'test.target'),
    `[Unit]\nWants=${JOURNAL.join(' ')} rookery-agent.service\n`,
  )
  await extend(units, 'rookery-agent', 'Environment=AGENT_CONFIG=/run/rookery')
  await extend(
    units,
    'unikernel@',
    'ExecStart=\nExecStart=/bin/sh /var/lib/unikernels/%i.hvt\nEnvironmentFile=\nSupplementaryGroups=',
  )
  return Systemd.boot({
    name: basename(folder),
    prepare: `folder='${folder}' agent='${AGENT}'${PREPARE}`,
    target: 'test.target',
    environment: { SYSTEMD_UNIT_PATH: units },
  })
}

function extend(units: string, service: string, lines: string): Promise<void> {
  const folder = join(units, `${service}.service.d`)
  return mkdir(folder).then(() => writeFile(join(folder, 'test.conf'), `[Service]\n${lines}\n`))
}
