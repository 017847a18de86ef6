/** The worker that loads a server, in a process of its own, so that its CPU is not counted. */
import { performance } from 'node:perf_hooks'
import { Connection } from './connection.ts'
import { blobContent, nextMark } from './content.ts'
import { deleteManifest, expect, pushBlob, pushImage, walkTags } from './operations.ts'

/** One unit of work. */
export type Work =
  | {
      kind: 'ask'
      method: string
      target: string
      headers: string
      status: number
      length: number
      /** The credential of the request; anonymous without it. */
      as?: 'token' | 'password'
    }
  /** Pushes blobs of these sizes in turn. */
  | { kind: 'push'; repository: string; sizes: readonly number[] }
  /** Pushes an image. */
  | { kind: 'image'; repository: string; bytes: number }
  /** Each connection pushes an image to a repository of its own, and deletes the one before. */
  | { kind: 'build'; repositories: readonly string[]; bytes: number }
  | { kind: 'tags'; repository: string; pageSize: number; tags: number }

export interface Job {
  origin: string
  /** Header lines that authorize pushes. Each ends with CR LF. */
  credentials: string
  /** The same with a token; empty for a server that has none. */
  bearer: string
  work: Work
  connections: number
  warmUps: number
  /** No unit starts after so many units, or after so many seconds. */
  unitsMax: number
  secondsMax: number
}

export interface Outcome {
  units: number
  seconds: number
  /** The number of requests of a walk; for other work, the number of units. */
  pages: number
}

export type Order = { order: 'prepare'; job: Job } | { order: 'go' }
export type Report =
  | { report: 'prepared' }
  | { report: 'done'; outcome: Outcome }
  | { report: 'failed'; message: string }

/** Does one unit, the `index`th, and returns its number of pages. */
async function doUnit(
  connection: Connection,
  { work, credentials, bearer }: Job,
  index: number,
): Promise<number> {
  switch (work.kind) {
    case 'ask': {
      const identity = work.as === 'token' ? bearer : work.as === 'password' ? credentials : ''
      const request = { ...work, headers: work.headers + identity }
      // A 304 may omit the length.
      await expect(connection, request, work.status, work.status === 304 ? undefined : work.length)
      return 1
    }
    case 'push': {
      const content = blobContent(work.sizes[index % work.sizes.length] ?? 0, nextMark())
      await pushBlob(connection, work.repository, content, credentials)
      return 1
    }
    case 'image':
      await pushImage(connection, work.repository, work.bytes, nextMark(), credentials)
      return 1
    case 'build': {
      const repository = work.repositories[connections.indexOf(connection)] ?? ''
      const digest = await pushImage(connection, repository, work.bytes, nextMark(), credentials)
      const before = pushed.get(connection)
      pushed.set(connection, digest)
      if (before !== undefined) await deleteManifest(connection, repository, before, credentials)
      return 1
    }
    case 'tags':
      return walkTags(connection, work.repository, work.pageSize, work.tags)
  }
}

async function run(
  connections: Connection[],
  job: Job,
  unitsMax: number,
  secondsMax: number,
): Promise<Outcome> {
  const start = performance.now()
  const end = start + secondsMax * 1000
  let units = 0
  let pages = 0
  const each = async (connection: Connection) => {
    while (units < unitsMax && performance.now() < end) {
      const taken = await doUnit(connection, job, units++)
      pages += taken
    }
  }
  await Promise.all(connections.map(each))
  return { units, pages, seconds: (performance.now() - start) / 1000 }
}

let connections: Connection[] = []
/** The digest of the last image of each connection. */
const pushed = new WeakMap<Connection, string>()
let job: Job | undefined

async function execute(order: Order): Promise<Report> {
  if (order.order === 'prepare') {
    job = order.job
    const { origin, work, warmUps } = job
    if (work.kind === 'push') for (const size of work.sizes) blobContent(size, nextMark())
    if (work.kind === 'image' || work.kind === 'build') blobContent(work.bytes, nextMark())
    const opening = Array.from({ length: job.connections }, () => Connection.open(origin))
    connections = await Promise.all(opening)
    await run(connections, job, warmUps, Number.POSITIVE_INFINITY)
    return { report: 'prepared' }
  }
  if (!job) throw new Error('"go" must follow "prepare"')
  try {
    return { report: 'done', outcome: await run(connections, job, job.unitsMax, job.secondsMax) }
  } finally {
    for (const connection of connections) connection.close()
  }
}

process.on('message', (order: Order) => {
  execute(order).then(
    (report) => process.send?.(report),
    (error: Error) => {
      for (const connection of connections) connection.close()
      process.send?.({ report: 'failed', message: error.message })
    },
  )
})
process.on('disconnect', () => process.exit())
// Ctrl-C reaches the whole process group; the parent stops the worker.
process.on('SIGINT', () => {})
