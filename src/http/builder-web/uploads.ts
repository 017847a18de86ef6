import { randomUUID } from 'node:crypto'
import { allows, tagBoundsOf } from '../../auth/access.ts'
import { badRequest, unavailable } from '../../oci/errors.ts'
import { parseNewTag, type Repository, type Tag } from '../../oci/reference.ts'
import { isPlatform } from '../../unikernel/build-claims.ts'
import { ConsoleLines } from '../../unikernel/exec/console.ts'
import { DerStream } from '../../unikernel/exec/der-stream.ts'
import {
  type ExecHead,
  type ExecOutput,
  readHead,
  readOutputs,
} from '../../unikernel/exec/read-exec.ts'
import { writeHead } from '../../unikernel/exec/write-exec.ts'
import { requireRight } from '../authorize.ts'
import { parseFileTitle } from '../file-title.ts'
import { actorOf, param, queryOnce, type Route, type RouteContext } from '../route.ts'
import { type BuilderWeb, pathOfBuild } from './jobs.ts'
import { NO_PLATFORM } from './json.ts'

/** Each upload keeps its console in memory, at most 16 MiB, twice for a moment. */
const UPLOADS_AT_ONCE_MAX = 8
const RETRY_SECONDS = 5
const MANUAL_SCRIPT = '# This artifact was manually built\n'

/** Takes builds as builder-web does: `POST /upload` of builder, and a binary of a person. */
export function uploadRoutes({ jobs, execUploads }: BuilderWeb): Route[] {
  let uploads = 0

  /** Requires the right to push the build. Throws UNAUTHORIZED, DENIED, NAME_INVALID, CONFLICT. */
  async function destinationOf(ctx: RouteContext, { job, platform = NO_PLATFORM, uuid }: ExecHead) {
    const { caller } = ctx.state
    if (!isPlatform(platform)) throw badRequest('the platform must be a word such as debian-12')
    const mayPush = (one: Repository) => allows(caller, 'push', one)
    const repository = await jobs.resolve(job, mayPush)
    const tag = tagOf(platform)
    requireRight(ctx, 'push', repository, [tag])
    await execUploads.assertNew(repository, uuid)
    return {
      ...{ repository, tag, actor: actorOf(ctx) },
      bounds: tagBoundsOf(caller, 'push', repository),
    }
  }

  async function store(ctx: RouteContext, head: ExecHead, outputs: AsyncIterable<ExecOutput>) {
    const { digest } = await execUploads.upload(await destinationOf(ctx, head), head, outputs)
    ctx.status = 201
    ctx.set({ Location: pathOfBuild(head.job, head.uuid), 'Docker-Content-Digest': digest })
    ctx.body = ''
  }

  return [
    {
      method: 'POST',
      path: '/upload',
      access: 'authenticated',
      storesContent: true,
      async handle(ctx) {
        if (uploads >= UPLOADS_AT_ONCE_MAX) {
          const retryAfterSeconds = RETRY_SECONDS
          throw unavailable('too many builds arrive at once, try again', { retryAfterSeconds })
        }
        uploads += 1
        const stream = new DerStream(ctx.state.body.bytes())
        try {
          const { outputBytes, ...head } = await readHead(stream)
          await store(ctx, head, readOutputs(stream, outputBytes))
        } finally {
          uploads -= 1
          await stream.close()
        }
      },
    },
    {
      method: 'POST',
      path: '/job/:job/platform/:platform/upload',
      access: 'authenticated',
      storesContent: true,
      query: { binary_name: 'once' },
      async handle(ctx) {
        const job = param(ctx, 'job')
        const name = parseFileTitle(queryOnce(ctx, 'binary_name') ?? `${job}.bin`)
        const head = await manualHead(job, param(ctx, 'platform'))
        await store(ctx, head, onlyBinary(ctx, `bin/${name}`))
      },
    },
  ]
}

/** Yields the body as the only file. */
async function* onlyBinary({ state }: RouteContext, path: string): AsyncGenerator<ExecOutput> {
  const { body } = state
  if (!body.present) throw badRequest('the body is empty: it must be the binary')
  yield { path, size: body.length, bytes: () => body.bytes() }
}

/** Describes a build that a person made. */
async function manualHead(job: string, platform: string): Promise<ExecHead> {
  const now = new Date()
  const description = {
    ...{ job, platform, uuid: randomUUID(), script: MANUAL_SCRIPT },
    ...{ startedAt: now, finishedAt: now },
  }
  return {
    ...description,
    script: Buffer.from(MANUAL_SCRIPT),
    result: { kind: 'exited', code: 0 },
    console: await ConsoleLines.read(Buffer.alloc(0)),
    der: writeHead(description),
  }
}

/** The tag of a platform. A tag has no plus sign. */
function tagOf(platform: string): Tag {
  return parseNewTag(platform.replaceAll('+', '_'))
}
