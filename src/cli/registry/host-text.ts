import { UsageError } from '../errors.ts'
import { utcText, visible } from '../printing.ts'
import { shortDigest } from './api-client.ts'

/** A host in an answer of the API: spec/openapi.yaml, Host. */
export type Host = {
  readonly name: string
  readonly state: string
  readonly trust: string
  readonly fingerprint: string | null
  readonly repositories: readonly string[]
  readonly networks: readonly string[] | null
  readonly labels: Readonly<Record<string, string>>
  readonly tenders: readonly {
    readonly target: string
    readonly abi: number | null
    readonly architecture: string | null
  }[]
  readonly agent: string | null
  readonly presence: string
  readonly seenAt: string | null
  readonly conflictAt: string | null
  readonly createdBy: string | null
  readonly requestedFrom: string | null
  readonly createdAt: string
  readonly expiresAt: string | null
  readonly revokedAt: string | null
  readonly units?: readonly HostUnit[]
}

/** A unit in an answer of the API: spec/openapi.yaml, HostUnit. */
export type HostUnit = {
  readonly name: string
  readonly repository: string
  readonly tag: string
  readonly kernel: string | null
  readonly state: string
  readonly reason: string | null
  readonly message: string | null
  readonly since: string
  readonly grantedDigest: string | null
}

export const HOST_HEADINGS = ['NAME', 'STATE', 'LAST SEEN', 'LABELS', 'REPOSITORIES']

/** The cells of a host in a table. */
export function hostCells(host: Host): string[] {
  const { name, state, presence, seenAt, labels, repositories } = host
  return [
    name,
    state === 'active' ? presence : state,
    seenAt === null ? 'never' : utcText(seenAt),
    labelsText(labels),
    repositories.join(' '),
  ]
}

const LABEL_WIDTH = 14

/** The lines about one host. */
export function hostLines(host: Host): string[] {
  const tenders = host.tenders.map(({ target, abi, architecture }) =>
    [target, abi === null ? [] : `ABI ${abi}`, architecture ?? []].flat().join(' '),
  )
  const rows: [string, string | null][] = [
    ['name', host.name],
    ['state', host.state === 'active' ? `${host.state}, ${host.presence}` : host.state],
    ['fingerprint', host.fingerprint ?? 'none: it has a password, which is weaker than a key'],
    ['repositories', host.repositories.join(' ') || 'none'],
    ['networks', host.networks?.join(' ') ?? 'any'],
    ['labels', labelsText(host.labels) || 'none'],
    ['runs', tenders.join(', ') || 'unknown: it sent no report'],
    ['agent', host.agent],
    ['last seen', host.seenAt === null ? 'never' : utcText(host.seenAt)],
    [
      'conflict',
      host.conflictAt && `two machines have its key, last seen ${utcText(host.conflictAt)}`,
    ],
    [
      'created',
      `${utcText(host.createdAt)} ${host.createdBy ? `by ${host.createdBy}` : ''}`.trim(),
    ],
    ['asked from', host.requestedFrom],
    ['waits until', host.expiresAt && utcText(host.expiresAt)],
    ['revoked', host.revokedAt && utcText(host.revokedAt)],
  ]
  return rows.flatMap(([label, text]) =>
    text === null || text === '' ? [] : [`${label.padEnd(LABEL_WIDTH)}${visible(text)}`],
  )
}

export const UNIT_HEADINGS = ['UNIT', 'FOLLOWS', 'STATE', 'SINCE', 'RUNS', 'REASON']

/** The cells of a unit in a table. */
export function unitCells(unit: HostUnit): string[] {
  const { name, repository, tag, state, since, kernel, reason, message } = unit
  return [
    name,
    `${repository}:${tag}`,
    state,
    utcText(since),
    kernel === null ? 'nothing' : shortDigest(kernel),
    [reason, message].filter(Boolean).join(': '),
  ]
}

/** Parses labels that an option or an argument gave. Throws UsageError. */
export function parseLabels(name: string, texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf('=')
      if (at > 0) return [text.slice(0, at), text.slice(at + 1)]
      throw new UsageError(`${name} must be LABEL=VALUE, not "${text}"`)
    }),
  )
}

function labelsText(labels: Host['labels']): string {
  return Object.entries(labels)
    .map(([label, text]) => `${label}=${text}`)
    .join(' ')
}

/** The path of a host's API. */
export function hostPath(name: string, below = ''): string {
  return `/api/v1/hosts/${encodeURIComponent(name)}${below}`
}
