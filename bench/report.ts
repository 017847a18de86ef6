/** Formats measurements as text. */
import { MIB } from './content.ts'
import type { Measurement } from './measure.ts'
import type { Memory } from './processes.ts'
import { CONNECTIONS_64, FLAT_PAGE_AIM, type Row, titleOf } from './rows.ts'
import { BEFORE, SERVER_NAMES, type ServerName } from './servers.ts'
import { type Compared, compareRounds } from './verdicts.ts'

/** The most memory of all processes: before the run, under 64 connections, and a minute after the run. */
const IDLE_AIM_BYTES = 110 * MIB
const PEAK_64_AIM_BYTES = 250 * MIB
const LATER_AIM_BYTES = 150 * MIB

/** The measurements of a row on all servers. */
export interface Result {
  row: Row
  /** The cheapest round. */
  by: Partial<Record<ServerName, Measurement>>
  /** The costs of all rounds, by their numbers. */
  costs: Partial<Record<ServerName, number[]>>
  failures: string[]
}

export interface MemoryReport {
  idle: Memory
  peaks: Map<string, Memory>
  after: Memory
  /** A minute after the run; undefined with `--quick` and `--against`. */
  later: Memory | undefined
}

/** The columns of the table that compares with docker-registry. */
const COLUMNS = [
  'row',
  'conns',
  'units',
  'rookery',
  'docker-registry',
  '',
  'CPU rookery',
  'main share',
  'CPU docker-registry',
  'CPU in s per',
  'ratio',
  'aim',
  '',
]

function figure(value: number | undefined): string {
  if (value === undefined) return '-'
  if (value >= 100) return value.toFixed(0)
  return value >= 10 ? value.toFixed(1) : value.toPrecision(2)
}

/** Returns Rookery's CPU divided by another server's, for the same work. */
export function ratioOf({ by }: Result, other: ServerName = 'docker-registry'): number | undefined {
  const { rookery, [other]: peer } = by
  return rookery && peer && peer.cost > 0 ? rookery.cost / peer.cost : undefined
}

function verdict(ratio: number | undefined, aim: number | undefined): string {
  if (ratio === undefined || aim === undefined) return ''
  return ratio <= aim ? 'ok' : 'MISS'
}

function cellsOf(result: Result): string[] {
  const { row, by, failures } = result
  const { rookery, 'docker-registry': peer } = by
  const ratio = ratioOf(result)
  const units = [...new Set([rookery, peer].flatMap((found) => (found ? [found.units] : [])))]
  return [
    row.name,
    String(row.connections),
    units.join(' / ') || '-',
    figure(rookery?.rate),
    figure(peer?.rate),
    row.per === 'byte' ? 'MB/s' : '/s',
    figure(rookery?.cost),
    rookery ? `${Math.round(100 * rookery.mainShare)} %` : '-',
    figure(peer?.cost),
    unitOf(row),
    figure(ratio),
    row.aim === undefined ? '' : String(row.aim),
    failures.length > 0 ? 'FAILED' : verdict(ratio, row.aim),
  ]
}

function align(lines: string[][]): string[] {
  const columns = lines[0] ?? []
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)))
  return lines.map((line) =>
    line
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
}

const AGAINST_COLUMNS = [
  'row',
  'conns',
  'CPU before',
  'CPU now',
  'CPU in s per',
  'ratio',
  'of all rounds',
  'verdict',
]

/** Compares a row of two builds. Undefined when rounds of it are missing. */
export function comparedOf({ costs }: Result): Compared | undefined {
  return compareRounds(costs.rookery ?? [], costs[BEFORE] ?? [])
}

/** Formats the comparison of two builds, and the failures. */
export function describeAgainst(results: readonly Result[]): string[] {
  const lines = results.map((result) => {
    const { row, by } = result
    const compared = comparedOf(result)
    return [
      ...headOf(row),
      figure(by[BEFORE]?.cost),
      figure(by.rookery?.cost),
      unitOf(row),
      figure(compared?.ratio),
      compared === undefined ? '-' : `${figure(compared.lowest)} to ${figure(compared.highest)}`,
      compared?.verdict ?? 'FAILED',
    ]
  })
  const failures = results.flatMap((result) => result.failures)
  return [...align([AGAINST_COLUMNS, ...lines]), ...failures.map((text) => `FAILED ${text}`)]
}

/** Formats the tables and the failures. */
export function describeResults(results: readonly Result[]): string[] {
  const failures = results.flatMap((result) => result.failures)
  const flat = describeFlatness(results)
  return [
    ...align([COLUMNS, ...results.map(cellsOf)]),
    ...flat,
    ...describeSdk(results),
    ...describeStore(results),
    ...failures.map((f) => `FAILED ${f}`),
  ]
}

const unitOf = ({ per }: Row) => (per === 'byte' ? 'GB' : '1000')
const HEAD = ['row', 'conns']
const headOf = ({ name, connections }: Row) => [name, String(connections)]

/** Formats the table that compares with the SDK alone; empty without it. */
function describeSdk(results: readonly Result[]): string[] {
  const names = ['sdk', 'sdk-unsigned'] as const
  const compared = results.filter(({ by }) => names.some((name) => by[name]))
  if (compared.length === 0) return []
  const lines = compared.map((result) => {
    const { row, by } = result
    const cells = names.flatMap((name) => {
      const ratio = ratioOf(result, name)
      return [figure(by[name]?.rate), figure(by[name]?.cost), figure(ratio)].concat(
        name === 'sdk' ? [String(row.sdkAim ?? ''), verdict(ratio, row.sdkAim)] : [],
      )
    })
    return [...headOf(row), figure(by.rookery?.rate), figure(by.rookery?.cost), ...cells]
  })
  const columns = ['rookery MB/s', 'CPU s/GB', 'sdk MB/s', 'CPU s/GB', 'ratio', 'aim', '']
  const unsigned = ['sdk-unsigned MB/s', 'CPU s/GB', 'ratio']
  return ['', ...align([[...HEAD, ...columns, ...unsigned], ...lines])]
}

/** Formats the CPU of the S3 server during each measurement, which no ratio includes. */
function describeStore(results: readonly Result[]): string[] {
  const names = SERVER_NAMES.filter((name) => results.some(({ by }) => by[name]?.storeCost))
  if (names.length === 0) return []
  const lines = results.map(({ row, by }) => [
    ...headOf(row),
    ...names.map((name) => figure(by[name]?.storeCost)),
    unitOf(row),
  ])
  const columns = [...HEAD, ...names.map((name) => `for ${name}`), 'S3 CPU in s per']
  return ['', ...align([columns, ...lines])]
}

/** Compares the CPU per page of tags when there are twice as many tags. */
function describeFlatness(results: readonly Result[]): string[] {
  const walks = results.filter(({ row }) => row.tags)
  const [fewer, more] = walks.map(({ by: { rookery } }) =>
    rookery ? (rookery.cpuSeconds / rookery.pages) * 1000 : undefined,
  )
  const titles = walks.map(({ row }) => titleOf(row)).join(', ')
  if (!fewer || !more) return []
  const growth = more / fewer
  return [
    `rookery, CPU-s per 1000 pages (${titles}): ${figure(fewer)}, ${figure(more)}; ` +
      `growth ${figure(growth)}, aim ${FLAT_PAGE_AIM} ${verdict(growth, FLAT_PAGE_AIM)}`,
  ]
}

const mib = (bytes: number) => `${Math.round(bytes / MIB)}`
const signed = (bytes: number) => `${bytes < 0 ? '' : '+'}${mib(bytes)}`

/** Formats the memory of one server over the run. */
export function describeMemory(name: ServerName, report: MemoryReport): string[] {
  const { idle, peaks, after, later } = report
  const line = (what: string, memory: Memory, note = '') => {
    const figures = `${mib(memory.mainBytes).padStart(5)} ${mib(memory.totalBytes).padStart(6)}`
    return `  ${what.padEnd(30)} ${figures}  ${note}`.trimEnd()
  }
  const aimed = ({ totalBytes }: Memory, aim: number) =>
    name === 'rookery' ? `aim < ${mib(aim)} in total ${totalBytes < aim ? 'ok' : 'MISS'}` : ''
  const grown = (memory: Memory) => {
    const main = signed(memory.mainBytes - idle.mainBytes)
    return `${main}, ${signed(memory.totalBytes - idle.totalBytes)} since idle`
  }
  return [
    `${name}, MiB: main process, all processes`,
    line('idle after start', idle, aimed(idle, IDLE_AIM_BYTES)),
    ...[...peaks].map(([label, peak]) => {
      const aim = label === CONNECTIONS_64 ? `; ${aimed(peak, PEAK_64_AIM_BYTES)}` : ''
      return line(`peak, ${label}`, peak, `${grown(peak)}${aim}`)
    }),
    line('idle after the run', after, grown(after)),
    ...(later ? [line('a minute later', later, aimed(later, LATER_AIM_BYTES))] : []),
  ]
}
