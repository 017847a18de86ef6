import { tagBoundsOf } from '../../auth/access.ts'
import { parseDigest } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'
import { MANIFEST_BYTES_MAX } from '../../oci/manifest.ts'
import { isJsonType, servedManifestType } from '../../oci/media-type.ts'
import {
  isTag,
  parseNewTag,
  parseReference,
  type Reference,
  type Tag,
} from '../../oci/reference.ts'
import type { ManifestReads } from '../../registry/builds/manifest-reads.ts'
import type { Manifests, StoredManifest } from '../../registry/manifests.ts'
import { parseBuildId } from '../build-id.ts'
import { setMonitorLinks } from '../monitor-links.ts'
import { entityTag, isNotModified, parseEntityTags, parsePrecondition } from '../preconditions.ts'
import {
  actorOf,
  type HotRouteContext,
  hotRoute,
  param,
  type Route,
  type RouteContext,
  repositoryOf,
  viewOf,
} from '../route.ts'
import { queryTags } from '../tag-query.ts'

const PATH = '/v2/*repository/manifests/:reference'

/** The routes of "Pulling manifests", "Pushing Manifests" and "Deleting Manifests" in the distribution spec. */
export function manifestRoutes(manifests: Manifests, reads: ManifestReads): Route[] {
  return [
    hotRoute({
      spec: ['end-3'],
      method: 'HEAD',
      path: PATH,
      access: 'pull',
      query: 'any',
      reads: 'rows',
      async handle(ctx) {
        const manifest = await manifests.find(viewOf(ctx), parseLookupReference(ctx), {
          withBytes: false,
        })
        setManifestHeaders(ctx, manifest)
        if (isNotModified(ctx.headers['if-none-match'], manifest.digest)) ctx.status = 304
        else ctx.length = manifest.size
      },
    }),
    hotRoute({
      spec: ['end-3'],
      method: 'GET',
      path: PATH,
      access: 'pull',
      query: 'any',
      reads: 'rows',
      async handle(ctx) {
        const ifNoneMatch = ctx.headers['if-none-match']
        const manifest = await manifests.find(viewOf(ctx), parseLookupReference(ctx), {
          withBytes: ifNoneMatch?.trim() !== '*',
          cachedDigest: cachedDigest(ifNoneMatch),
        })
        if (manifest.release !== undefined) afterResponse(ctx, manifest.release)
        await noteRead(ctx, reads, manifest)
        setManifestHeaders(ctx, manifest)
        if (isNotModified(ifNoneMatch, manifest.digest)) {
          ctx.status = 304
          return
        }
        ctx.body = manifest.bytes
        // After the body, because Koa sets a type for a body without one.
        ctx.set('Content-Type', servedManifestType(manifest.mediaType))
      },
    }),
    {
      spec: ['end-7a', 'end-7b'],
      method: 'PUT',
      path: PATH,
      access: 'push',
      storesContent: true,
      query: 'any',
      tags: (ctx) => [...tagsOf(parsePushReference(ctx)), ...queryTags(ctx)],
      async handle(ctx) {
        const reference = parsePushReference(ctx)
        const tags = queryTags(ctx)
        const { digest, subject, buildId, deployments } = await manifests.put({
          repository: repositoryOf(ctx),
          reference,
          tags,
          buildId: parseBuildId(ctx),
          precondition: parsePrecondition(ctx.headers),
          contentType: ctx.headers['content-type'],
          bytes: await ctx.state.body.read(MANIFEST_BYTES_MAX),
          actor: actorOf(ctx),
          bounds: tagBoundsOf(ctx.state.caller, 'push', repositoryOf(ctx)),
        })
        ctx.status = 201
        ctx.set({
          Location: `/v2/${repositoryOf(ctx)}/manifests/${digest}`,
          'Docker-Content-Digest': digest,
          ETag: entityTag(digest),
        })
        setMonitorLinks(ctx, deployments)
        if (subject !== undefined) ctx.set('OCI-Subject', subject)
        if (buildId !== undefined) ctx.set('Rookery-Build', buildId)
        if (tags.length > 0) ctx.set('OCI-Tag', tags.join(', '))
        ctx.body = ''
      },
    },
    {
      spec: ['end-9'],
      method: 'DELETE',
      path: PATH,
      access: 'delete',
      query: 'any',
      tags: (ctx) => tagsOf(parseLookupReference(ctx)),
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        ctx.body = await manifests.remove({
          repository,
          reference: parseLookupReference(ctx),
          actor: actorOf(ctx),
          precondition: parsePrecondition(ctx.headers),
          bounds: tagBoundsOf(ctx.state.caller, 'delete', repository),
        })
        ctx.status = 202
      },
    },
  ]
}

/** Notes, before the answer, that a client which may push has the manifest: its push of the same is a copy. */
async function noteRead(
  { state }: HotRouteContext,
  reads: ManifestReads,
  { digest }: StoredManifest,
): Promise<void> {
  const { caller } = state
  if (caller.kind !== 'anonymous') await reads.note(caller.origin ?? caller.actor, digest)
}

function tagsOf(reference: Reference): Tag[] {
  return reference.kind === 'tag' ? [reference.tag] : []
}

function setManifestHeaders(ctx: HotRouteContext, manifest: StoredManifest): void {
  const contentType = servedManifestType(manifest.mediaType)
  ctx.status = 200
  ctx.set({
    'Content-Type': contentType,
    'Docker-Content-Digest': manifest.digest,
    ETag: entityTag(manifest.digest),
  })
  if (!isJsonType(contentType)) ctx.set('Content-Disposition', 'attachment')
}

/** Runs `work` when the response is sent, or its connection closed. */
function afterResponse({ res }: HotRouteContext, work: () => void): void {
  if (res.closed) work()
  else res.once('close', work)
}

/** Parses the digest or the new tag of a push. Throws DIGEST_INVALID, TAG_INVALID. */
function parsePushReference(ctx: RouteContext): Reference {
  const text = param(ctx, 'reference')
  return text.includes(':') ? parseReference(text) : { kind: 'tag', tag: parseNewTag(text) }
}

/** Parses a reference to look up. A malformed tag does not exist: MANIFEST_UNKNOWN, as the spec's tests expect. */
export function parseLookupText(text: string): Reference {
  if (!text.includes(':') && !isTag(text)) {
    throw new RegistryError('MANIFEST_UNKNOWN', { reference: text.slice(0, 160) })
  }
  return parseReference(text)
}

function parseLookupReference(ctx: HotRouteContext): Reference {
  return parseLookupText(param(ctx, 'reference'))
}

/** Returns the one digest that the client has, so that the manifest's bytes need not be read. */
function cachedDigest(ifNoneMatch: string | undefined) {
  const tags = ifNoneMatch === undefined ? [] : parseEntityTags(ifNoneMatch)
  const only = tags.length === 1 ? tags[0] : undefined
  try {
    return only === undefined || only === '*' ? undefined : parseDigest(only)
  } catch {
    // An entity tag of another server matches no manifest.
    return undefined
  }
}
