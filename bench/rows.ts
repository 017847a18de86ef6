/** The table of rows to measure. */
import { blobContent, imageContent, MANIFEST_TYPE, MIB, SEED_MARK } from './content.ts'
import type { Work } from './load.ts'
import { BEFORE, PEER_NAMES, PULL_REPOSITORY, type ServerName } from './servers.ts'

export const TAGS_REPOSITORY = 'bench/tags'
const PUSH_REPOSITORY = 'bench/pushes'
export const LAYER_BYTES = MIB
const PAGE_SIZE = 100
const UNITS_UNBOUNDED = 1e9
/** A row of large bodies starts no transfer later than this. */
const LARGE_SECONDS_MAX = 15
/** The most that one row may leave in the S3 server's memory. */
const S3_ROW_BYTES_MAX = 2048 * MIB

/** The kinds of store for blobs. */
export const STORE_NAMES = ['filesystem', 's3'] as const
export type StoreName = (typeof STORE_NAMES)[number]

export interface Row {
  name: string
  connections: number
  /** CPU is reported per 1000 units, or per GB. */
  per: 'unit' | 'byte'
  /** Bytes of a blob that one unit moves; 0 for small responses. */
  bytes: number
  /** Created only when the row starts, because the digest of a large blob takes time. */
  work(): Work
  warmUps: number
  unitsMax: number
  secondsMax: number
  /** The maximum of Rookery's CPU divided by docker-registry's. */
  aim?: number
  /** The maximum of Rookery's CPU divided by the SDK's. */
  sdkAim?: number
  /** The servers that support this work; without it, the registries. */
  servers?: readonly ServerName[]
  /** The most that it may leave in the store; a server that needs more gets fewer units. */
  bytesMax?: number
  /** Reports its memory peak separately. */
  ownPeak?: boolean
  /** The tags that the repository must have beforehand. */
  tags?: number
  writes: boolean
}

export interface Scale {
  store: StoreName
  seconds: number
  quick: boolean
}

/** The aims at 8 connections, for a warm server. */
const AIMS: Record<string, number> = {
  'manifest by tag': 0.14,
  'manifest by digest': 0.11,
  'HEAD blob': 0.08,
  'pull 1 MiB': 0.25,
  'pull 256 MiB': 0.9,
  'push 256 MiB': 0.95,
  'push image': 0.5,
}

export const FLAT_PAGE_AIM = 1.25
/** The aim of pushes on S3: Rookery's CPU divided by the SDK's. */
const SDK_AIM = 1.3

function ask(method: string, target: string, status: number, length: number, headers = ''): Work {
  return { kind: 'ask', method, target, status, length, headers }
}

/** A client checks with this that its credential is right. The body is `{}`. */
const askVersion = () => ask('GET', '/v2/', 200, 2)

const accept = `Accept: ${MANIFEST_TYPE}\r\n`
const seedManifest = () => imageContent(blobContent(LAYER_BYTES, SEED_MARK)).manifest

function askManifest(reference: (digest: string) => string, known: boolean): () => Work {
  return () => {
    const { digest, length } = seedManifest()
    const target = `/v2/${PULL_REPOSITORY}/manifests/${reference(digest)}`
    const headers = known ? `${accept}If-None-Match: "${digest}"\r\n` : accept
    return ask('GET', target, known ? 304 : 200, length, headers)
  }
}

function askBlob(method: string, bytes: number): () => Work {
  return () => {
    const { digest } = blobContent(bytes, SEED_MARK)
    return ask(method, `/v2/${PULL_REPOSITORY}/blobs/${digest}`, 200, bytes)
  }
}

/** The size of a blob, the warm-up units, and the units at 1, 8 and 64 connections. */
const PULLS = [
  { mib: 1, warmUps: 20, units: [UNITS_UNBOUNDED, UNITS_UNBOUNDED, UNITS_UNBOUNDED] },
  { mib: 16, warmUps: 2, units: [64, 128, 128] },
  { mib: 256, warmUps: 1, units: [4, 16, 32] },
]
const PUSHES = [
  { mib: 1, warmUps: 5, units: [500, 500, 500] },
  { mib: 16, warmUps: 1, units: [16, 32, 64] },
  { mib: 256, warmUps: 0, units: [4, 8, 16] },
]

function rowsAt(connections: number, level: number, scale: Scale): Row[] {
  const { seconds, quick } = scale
  const s3 = scale.store === 's3'
  const row = (name: string, work: () => Work, rest: Partial<Row>): Row => {
    const aim = connections === 8 && !quick && !s3 ? AIMS[name] : undefined
    return {
      name,
      connections,
      work,
      per: 'unit',
      bytes: 0,
      warmUps: 1000,
      unitsMax: UNITS_UNBOUNDED,
      secondsMax: seconds,
      writes: false,
      ...(aim !== undefined && { aim }),
      ...rest,
    }
  }
  const transfer = (verb: string, { mib, warmUps, units }: (typeof PULLS)[number]): Row => {
    const bytes = mib * MIB
    const push: Work = { kind: 'push', repository: PUSH_REPOSITORY, sizes: [bytes] }
    const unitsMax = quick ? Math.ceil(32 / mib) : (units[level] ?? 1)
    return row(`${verb} ${mib} MiB`, verb === 'push' ? () => push : askBlob('GET', bytes), {
      per: 'byte',
      bytes,
      warmUps,
      unitsMax,
      secondsMax: mib === 1 ? seconds : LARGE_SECONDS_MAX,
      writes: verb === 'push',
      ...(s3 && { servers: verb === 'push' ? PEER_NAMES : PULL_SERVERS }),
      ...(s3 && verb === 'push' && connections === 8 && !quick && { sdkAim: SDK_AIM }),
      ...(s3 && verb === 'push' && { bytesMax: S3_ROW_BYTES_MAX, ownPeak: mib === 256 }),
    })
  }
  const image: Work = { kind: 'image', repository: 'bench/images', bytes: LAYER_BYTES }
  return [
    row('GET /v2/, password', () => ({ ...askVersion(), as: 'password' }), {}),
    row(
      'manifest by tag',
      askManifest(() => 'v1', false),
      {},
    ),
    ...(['token', 'password'] as const).map((as) =>
      row(
        `manifest by tag, ${as}`,
        () => ({ ...askManifest(() => 'v1', false)(), as }) as Work,
        {},
      ),
    ),
    row(
      'manifest by digest',
      askManifest((digest) => digest, false),
      {},
    ),
    row(
      'manifest unchanged',
      askManifest(() => 'v1', true),
      {},
    ),
    row('HEAD blob', askBlob('HEAD', LAYER_BYTES), {}),
    ...PULLS.map((pull) => transfer('pull', pull)),
    ...PUSHES.map((push) => transfer('push', push)),
    row('push image', () => image, {
      bytes: LAYER_BYTES,
      warmUps: 5,
      unitsMax: quick ? 20 : 500,
      writes: true,
    }),
  ]
}

function walkRow(tags: number, seconds: number, aim: { aim?: number }): Row {
  return {
    name: `walk ${tags} tags`,
    connections: 1,
    per: 'unit',
    bytes: 0,
    work: () => ({ kind: 'tags', repository: TAGS_REPOSITORY, pageSize: PAGE_SIZE, tags }),
    warmUps: 5,
    unitsMax: UNITS_UNBOUNDED,
    secondsMax: seconds,
    tags,
    writes: false,
    ...aim,
  }
}

/** Rows that show whether memory grows with pushes: one row again, and a larger blob among others. */
function memoryRows(rows: readonly Row[]): Row[] {
  const push = rows.find(({ name, connections }) => name === 'push 256 MiB' && connections === 8)
  if (!push) return []
  const { sdkAim: _, ...again } = push
  const sizes = [1024 * MIB, ...Array.from({ length: 8 }, () => 256 * MIB)]
  const bytes = sizes.reduce((sum, size) => sum + size, 0) / sizes.length
  const shared = { ...again, servers: ['rookery'] as const }
  return [
    { ...shared, name: 'push 256 MiB again' },
    {
      ...shared,
      name: 'push 1 GiB + 8 others',
      connections: sizes.length,
      bytes,
      work: () => ({ kind: 'push', repository: PUSH_REPOSITORY, sizes }),
      unitsMax: sizes.length,
      bytesMax: sizes.length * bytes,
    },
  ]
}

/** Only pushes have bodies to sign, so one SDK server is enough to compare pulls. */
const PULL_SERVERS = ['docker-registry', 'rookery', 'sdk'] as const

/** The rows for S3: the other rows do not use the store. */
const S3_ROWS = /^((pull|push) .*|HEAD blob|manifest by tag)$/

/** Lists all rows, grouped by work, so that neighbours differ only in connections. */
export function listRows(scale: Scale): Row[] {
  const levels = scale.quick ? [8] : [1, 8, 64]
  const byLevel = levels.map((connections) =>
    rowsAt(connections, [1, 8, 64].indexOf(connections), scale),
  )
  const names = byLevel[0]?.map(({ name }) => name) ?? []
  const grouped = names.flatMap((name) =>
    byLevel.flatMap((rows) => rows.filter((row) => row.name === name)),
  )
  if (scale.store === 's3') {
    const rows = grouped.filter(({ name }) => S3_ROWS.test(name))
    return [...rows, ...(scale.quick ? [] : memoryRows(rows))]
  }
  const tags = scale.quick ? 200 : 2000
  return [
    ...grouped,
    walkRow(tags, scale.seconds, scale.quick ? {} : { aim: 1 }),
    walkRow(2 * tags, scale.seconds, {}),
  ]
}

/** Returns the text that `--rows` matches. */
export function titleOf(row: Row): string {
  return `${row.name} @${row.connections}`
}

/** The label of the memory peak of all rows at 64 connections. */
export const CONNECTIONS_64 = '64 connections'

/** Returns the labels of the memory peaks that a row counts for. */
export function memoryLabelsOf(row: Row): string[] {
  const labels = ['whole run']
  if (row.connections === 64) labels.push(CONNECTIONS_64)
  if (row.bytes === 256 * MIB) labels.push('256 MiB blobs')
  if (row.ownPeak) labels.push(titleOf(row))
  return labels
}

/** True when a server supports the row's work. */
export function isFor(row: Row, name: ServerName): boolean {
  const kind = name === BEFORE ? 'rookery' : name
  return row.servers?.includes(kind) ?? (kind === 'docker-registry' || kind === 'rookery')
}

/** Limits the units to the room in the store; docker-registry copies each complete blob. */
export function unitsMaxOn({ unitsMax, bytes, bytesMax }: Row, name: ServerName): number {
  if (bytesMax === undefined) return unitsMax
  const copies = name === 'docker-registry' ? 2 : 1
  return Math.min(unitsMax, Math.floor(bytesMax / (bytes * copies)))
}

/** Returns an upper bound of the bytes that the rows leave on one server's disk. */
export function bytesOnDisk(rows: readonly Row[]): number {
  const pushed = rows.map((row) => (row.writes ? row.bytes * (row.unitsMax + row.warmUps) : 0))
  return pushed.reduce((sum, bytes) => sum + bytes, 512 * MIB)
}
