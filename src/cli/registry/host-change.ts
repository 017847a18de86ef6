import { command, flag, JSON_OPTION, list, moreArguments } from '../command.ts'
import { STATUS, UsageError } from '../errors.ts'
import { printResult, visible } from '../printing.ts'
import { withHostApi } from './api-client.ts'
import { NAMED } from './host.ts'
import { type Host, hostLines, hostPath, parseLabels } from './host-text.ts'
import { LOGIN_OPTIONS } from './login-options.ts'

const LABELS_MAX = 32

/** `rookery host label`: labels of a host, set and removed. */
export const labelCommand = command({
  arguments: {
    ...NAMED,
    labels: moreArguments('LABEL=VALUE', 'labels to set, or LABEL- to remove one', LABELS_MAX),
  },
  options: { ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes: 'Other labels stay. Rollouts order and select hosts by their labels.',
  examples: [
    ['rookery host label registry.example.org web-1 site=b rack=7', 'set two labels'],
    ['rookery host label registry.example.org web-1 rack-', 'remove a label'],
  ],
  run(values, environment) {
    const removed = values.labels.filter(isRemoval).map((text) => text.slice(0, -1))
    const set = parseLabels(
      'a label',
      values.labels.filter((text) => !isRemoval(text)),
    )
    if (values.labels.length === 0) throw new UsageError('give LABEL=VALUE or LABEL-')
    return withHostApi(values.host, values, environment, async (api) => {
      const subject = `the host ${values.name}`
      const path = hostPath(values.name)
      const { labels: before } = (await api.find(path, subject)) as Host
      const kept = Object.entries(before).filter(([label]) => !removed.includes(label))
      const labels = { ...Object.fromEntries(kept), ...set }
      const host = (await api.send('PATCH', path, subject, { labels })) as Host
      printResult(values.json, host, hostLines(host))
      return STATUS.ok
    })
  },
})

function isRemoval(text: string): boolean {
  return text.endsWith('-') && !text.includes('=')
}

/** `rookery host update`: what a host may follow, and from where. */
export const updateCommand = command({
  arguments: NAMED,
  options: {
    repository: list('GLOB', 'repositories that it may follow, in place of the present ones'),
    network: list('CIDR', 'networks from which it may call, in place of the present ones'),
    anyNetwork: flag('permit any network'),
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes:
    'The tokens of the host end within seconds, and it requests new ones by itself. The login needs admin and pull on the repositories before and after.',
  examples: [
    [
      "rookery host update registry.example.org web-1 --repository 'builds/*' --repository 'web/*'",
      'let it follow more repositories',
    ],
  ],
  run(values, environment) {
    const { repository: repositories, network, anyNetwork } = values
    if (anyNetwork && network !== undefined) {
      throw new UsageError('give --network or --any-network')
    }
    return withHostApi(values.host, values, environment, async (api) => {
      const networks = anyNetwork ? null : network
      const change = { repositories, networks }
      const path = hostPath(values.name)
      const host = (await api.send('PATCH', path, `the host ${values.name}`, change)) as Host
      printResult(values.json, host, hostLines(host))
      return STATUS.ok
    })
  },
})

/** `rookery host revoke`: a host, its key and its tokens end. */
export const revokeCommand = command({
  arguments: NAMED,
  options: { ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes:
    'Its key and tokens end on every replica within seconds, and no deployment waits for it. It keeps running what it runs. Its name is free for another host. A host that waits for an approval is refused.',
  examples: [['rookery host revoke registry.example.org web-1', 'for a stolen or retired host']],
  run(values, environment) {
    return withHostApi(values.host, values, environment, async (api) => {
      const { name } = values
      await api.send('DELETE', hostPath(name), `the host ${name}`, undefined)
      printResult(values.json, { name, revoked: true }, [visible(`Revoked host ${name}`)])
      return STATUS.ok
    })
  },
})
