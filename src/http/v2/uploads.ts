import { pullablePatterns } from '../../auth/access.ts'
import { parseAlgorithm, parseDigest } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'
import { parseRepository } from '../../oci/reference.ts'
import type { Blobs } from '../../registry/blobs.ts'
import type { UploadBody } from '../../registry/uploads/hash-stream.ts'
import type { UploadStatus, Uploads } from '../../registry/uploads/uploads.ts'
import { parseChunkRange, receivedRange } from '../ranges.ts'
import { actorOf, param, queryOnce, type Route, type RouteContext, repositoryOf } from '../route.ts'

const START_PATH = '/v2/*repository/blobs/uploads/'
const UPLOAD_PATH = '/v2/*repository/blobs/uploads/:upload'

/** The routes of "Pushing blobs" and "Mounting a blob from another repository" in the distribution spec. */
export function uploadRoutes(uploads: Uploads, blobs: Blobs): Route[] {
  return [
    {
      spec: ['end-4a', 'end-4b', 'end-4c', 'end-11'],
      method: 'POST',
      path: START_PATH,
      access: 'push',
      storesContent: true,
      query: 'any',
      async handle(ctx) {
        const mount = queryOnce(ctx, 'mount')
        if (mount !== undefined && (await mounted(ctx, blobs, mount))) return
        const digest = queryOnce(ctx, 'digest')
        if (digest !== undefined && mount === undefined) {
          await pushWhole(ctx, uploads, digest)
          return
        }
        const algorithm = parseAlgorithm(queryOnce(ctx, 'digest-algorithm') ?? 'sha256')
        const upload = await uploads.start(repositoryOf(ctx), actorOf(ctx), algorithm)
        acknowledge(ctx, 202, upload)
      },
    },
    {
      spec: ['end-5'],
      method: 'PATCH',
      path: UPLOAD_PATH,
      access: 'push',
      storesContent: true,
      query: 'any',
      allowsExpiredToken: true,
      async handle(ctx) {
        acknowledge(ctx, 202, await uploads.append(uploadKey(ctx), incoming(ctx)))
      },
    },
    {
      spec: ['end-6'],
      method: 'PUT',
      path: UPLOAD_PATH,
      access: 'push',
      storesContent: true,
      query: 'any',
      allowsExpiredToken: true,
      async handle(ctx) {
        const text = queryOnce(ctx, 'digest')
        if (text === undefined) {
          throw new RegistryError('DIGEST_INVALID', undefined, {
            message: 'the closing PUT needs ?digest= with the digest of the whole blob',
          })
        }
        const digest = parseDigest(text)
        await uploads.finish(uploadKey(ctx), digest, incoming(ctx))
        created(ctx, digest)
      },
    },
    {
      spec: ['end-13'],
      method: 'GET',
      path: UPLOAD_PATH,
      access: 'push',
      query: 'any',
      reads: 'rows',
      allowsExpiredToken: true,
      async handle(ctx) {
        acknowledge(ctx, 204, await uploads.status(uploadKey(ctx)))
      },
    },
    {
      spec: ['end-14'],
      method: 'DELETE',
      path: UPLOAD_PATH,
      access: 'push',
      query: 'any',
      allowsExpiredToken: true,
      async handle(ctx) {
        await uploads.cancel(uploadKey(ctx))
        ctx.status = 204
      },
    },
  ]
}

/** Mounts a blob (end-11). Returns true when the repository has the blob, so that no upload is needed. */
async function mounted(ctx: RouteContext, blobs: Blobs, mount: string): Promise<boolean> {
  const digest = parseDigest(mount)
  const from = queryOnce(ctx, 'from')
  const source = from === undefined ? undefined : parseRepository(from)
  const visible = pullablePatterns(ctx.state.caller)
  if (!(await blobs.mount(repositoryOf(ctx), digest, source, visible, actorOf(ctx)))) return false
  created(ctx, digest)
  return true
}

/** end-4b: an upload of one request. */
async function pushWhole(ctx: RouteContext, uploads: Uploads, text: string): Promise<void> {
  const digest = parseDigest(text)
  const owner = uploadOwner(ctx)
  const { id } = await uploads.startSingleRequest(owner.repository, owner.actor)
  const key = { id, ...owner }
  try {
    await uploads.finish(key, digest, incoming(ctx))
  } catch (error) {
    // The client has no Location to resume it. A sweep deletes it if this fails as well.
    await uploads.abandon(key).catch(() => {})
    throw error
  }
  created(ctx, digest)
}

function uploadKey(ctx: RouteContext) {
  return { id: param(ctx, 'upload'), ...uploadOwner(ctx) }
}

/** An upload belongs to a repository and an actor; an expired token may finish the uploads that it started. */
function uploadOwner(ctx: RouteContext) {
  const { caller } = ctx.state
  const startedBefore = caller.kind === 'holder' ? caller.expiredAt : undefined
  return { repository: repositoryOf(ctx), actor: actorOf(ctx), startedBefore }
}

/** Returns the body and its position in the blob. Throws SIZE_INVALID when Content-Range and Content-Length disagree. */
function incoming(ctx: RouteContext): UploadBody {
  const { body } = ctx.state
  const range = parseChunkRange(ctx.headers['content-range'])
  if (range !== undefined && body.length !== undefined && body.length !== range.length) {
    throw new RegistryError('SIZE_INVALID', {
      'Content-Range': ctx.headers['content-range'],
      'Content-Length': body.length,
    })
  }
  return { bytes: body.bytes(), start: range?.start, length: range?.length ?? body.length }
}

function acknowledge(ctx: RouteContext, status: number, upload: UploadStatus): void {
  ctx.status = status
  ctx.set({
    Location: `/v2/${repositoryOf(ctx)}/blobs/uploads/${upload.id}`,
    Range: receivedRange(upload.size),
    'Docker-Upload-UUID': upload.id,
  })
  if (status !== 204) ctx.body = ''
}

function created(ctx: RouteContext, digest: string): void {
  ctx.status = 201
  ctx.set({
    Location: `/v2/${repositoryOf(ctx)}/blobs/${digest}`,
    'Docker-Content-Digest': digest,
  })
  ctx.body = ''
}
