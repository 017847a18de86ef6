import { argument, choice, command, JSON_OPTION, list, value } from '../command.ts'
import { STATUS } from '../errors.ts'
import { LIMIT_OPTION, MORE_LINE } from '../numbers.ts'
import { printJson, printLines, printResult, printTable, table } from '../printing.ts'
import { withHostApi } from './api-client.ts'
import {
  HOST_HEADINGS,
  type Host,
  hostCells,
  hostLines,
  hostPath,
  parseLabels,
  UNIT_HEADINGS,
  unitCells,
} from './host-text.ts'
import { LOGIN_OPTIONS } from './login-options.ts'

/** The argument of commands for one registry. */
export const REGISTRY = { host: argument('HOST', 'registry, such as registry.example.org') }
/** The arguments of commands for one host of a registry. */
export const NAMED = { ...REGISTRY, name: argument('NAME', 'host, such as web-1') }

/** `rookery host list`: the hosts of a registry. */
export const listCommand = command({
  arguments: REGISTRY,
  options: {
    label: list('LABEL=VALUE', 'only hosts with this label'),
    repository: value('REPOSITORY', 'only hosts with a unit that follows it'),
    kernel: value('DIGEST', 'only hosts with a unit that runs this kernel'),
    state: choice('STATE', ['pending', 'active', 'revoked'], 'only hosts in this state'),
    ...LIMIT_OPTION,
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes:
    'A login sees the hosts whose repositories it administers. Without --state, the list has pending and active hosts.',
  examples: [
    ['rookery host list registry.example.org', 'list hosts by name'],
    ['rookery host list registry.example.org --label site=a', 'those of one site'],
    ['rookery host list registry.example.org --state pending', 'those that wait for an approval'],
  ],
  run(values, environment) {
    return withHostApi(values.host, values, environment, async (api) => {
      const { label = [], repository, kernel, state } = values
      parseLabels('--label', label)
      const filters = Object.entries({ repository, kernel, state }).flatMap(
        ([name, text]): [string, string][] => (text === undefined ? [] : [[name, text]]),
      )
      const query = new URLSearchParams([
        ...label.map((text): [string, string] => ['label', text]),
        ...filters,
      ])
      const path = `/api/v1/hosts?${query}`
      const { items, more } = await api.listUpTo(path, 'hosts', 'the hosts', values.limit)
      if (values.json) printJson({ hosts: items, more })
      else printTable(HOST_HEADINGS, (items as Host[]).map(hostCells))
      if (!values.json && more) printLines([MORE_LINE])
      return STATUS.ok
    })
  },
})

/** `rookery host show`: one host with its units. */
export const showCommand = command({
  arguments: NAMED,
  options: { ...JSON_OPTION, ...LOGIN_OPTIONS },
  examples: [['rookery host show registry.example.org web-1', 'show its key, grant and units']],
  run(values, environment) {
    return withHostApi(values.host, values, environment, async (api) => {
      const host = (await api.find(hostPath(values.name), `the host ${values.name}`)) as Host
      const { units = [] } = host
      const rows = table(UNIT_HEADINGS, units.map(unitCells))
      printResult(values.json, host, [
        ...hostLines(host),
        ...(units.length === 0 ? [] : ['', ...rows]),
      ])
      return STATUS.ok
    })
  },
})

/** `rookery host units`: what a host runs. */
export const unitsCommand = command({
  arguments: NAMED,
  options: { ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes:
    'Units are those of the unit files on the host, as it last reported them. RUNS has the digest of the kernel.',
  examples: [['rookery host units registry.example.org web-1', 'list what it runs']],
  run(values, environment) {
    return withHostApi(values.host, values, environment, async (api) => {
      const host = (await api.find(hostPath(values.name), `the host ${values.name}`)) as Host
      const { units = [] } = host
      if (values.json) printJson({ units })
      else printTable(UNIT_HEADINGS, units.map(unitCells))
      return STATUS.ok
    })
  },
})
