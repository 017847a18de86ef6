import { ownPatterns, pullablePatterns } from '../../auth/access.ts'
import { parseDigest } from '../../oci/digest.ts'
import { invalidQuery } from '../../oci/errors.ts'
import { type Glob, parseRepositoryGlob } from '../../oci/glob.ts'
import { withoutHiddenCharacters } from '../../oci/hidden-characters.ts'
import type { Blobs } from '../../registry/blobs.ts'
import type { Builds } from '../../registry/builds/builds.ts'
import type { Images } from '../../registry/images/images.ts'
import { listReproductions } from '../../registry/images/reproductions.ts'
import { baseName } from '../../unikernel/format.ts'
import { type PageCursors, pageLimit, setNextLink } from '../pages.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { param, queryOnce, type Route, type RouteContext, repositoryOf, viewOf } from '../route.ts'
import { sendBlob, sendBlobHeaders } from '../send-blob.ts'
import { builderOf, parseInputId } from './build-query.ts'
import { buildJson } from './builds.ts'
import { HIT_FILTER, hitFilterOf } from './hit-query.ts'
import { assertSeesBuilders, IMAGE_FILTER, imageFilterOf } from './image-filter.ts'
import { imageDetails, imageSummary } from './image-json.ts'
import { readImageReference, SELECTOR, selectorOf } from './kernel-query.ts'

const IMAGES = '/api/v1/repositories/*repository/images'
const KERNEL = `${IMAGES}/:reference/kernel`
const LIMIT = 100

/** Lists and describes unikernel images, and serves their kernels to hosts. */
export function imageRoutes(
  images: Images,
  blobs: Blobs,
  builds: Builds,
  ask: AskQuestion,
  cursors: PageCursors,
): Route[] {
  const kernelRow = (
    method: 'HEAD' | 'GET',
    send: (ctx: RouteContext, blob: Awaited<ReturnType<Blobs['find']>>) => Promise<void> | void,
  ): Route => ({
    method,
    path: KERNEL,
    access: 'pull',
    query: SELECTOR,
    reads: 'rows',
    async handle(ctx) {
      const reference = await readImageReference(ctx, images)
      const found = await images.find(viewOf(ctx), reference, selectorOf(ctx))
      const { kernelDigest, kernelTitle, digest } = found
      const blob = await blobs.find(viewOf(ctx), kernelDigest)
      ctx.set({ 'OCI-Image-Digest': digest })
      if (kernelTitle !== null) setFileName(ctx, kernelTitle)
      await send(ctx, blob)
    },
  })
  return [
    {
      method: 'GET',
      path: IMAGES,
      access: 'pull',
      query: { ...IMAGE_FILTER, ...PAGE },
      reads: 'question',
      async handle(ctx) {
        const limit = pageLimit(ctx, LIMIT)
        const filter = imageFilterOf(ctx, builderOf(ctx))
        const page = await images.list(ask(ctx), viewOf(ctx), filter, cursors.read(ctx), limit)
        if (page.next !== undefined) nextPage(ctx, cursors.format(page.next), limit)
        ctx.body = { images: page.images.map((image) => imageSummary(image, ctx.state.caller)) }
      },
    },
    {
      method: 'GET',
      path: '/api/v1/images',
      access: 'publicRead',
      query: { ...IMAGE_FILTER, ...PAGE, repository: 'once' },
      reads: 'question',
      async handle(ctx) {
        const { caller } = ctx.state
        const limit = pageLimit(ctx, LIMIT)
        const builder = queryOnce(ctx, 'builder') || undefined
        assertSeesBuilders(caller, builder)
        const filter = imageFilterOf(ctx, builder)
        const named = queryOnce(ctx, 'repository') || undefined
        const repositories = named === undefined ? undefined : parsePrefixGlob(named)
        const visible = pullablePatterns(caller)
        // Only members of a repository see who pushed.
        const names = { repositories, membersOnly: builder !== undefined }
        const before = cursors.read(ctx)
        const page = await images.search(ask(ctx), filter, visible, names, before, limit)
        if (page.next !== undefined) nextPage(ctx, cursors.format(page.next), limit)
        ctx.body = { images: page.images.map((image) => imageSummary(image, caller)) }
      },
    },
    kernelRow('HEAD', sendBlobHeaders),
    kernelRow('GET', (ctx, blob) => sendBlob(ctx, blob, { redirect: false })),
    {
      method: 'GET',
      path: `${IMAGES}/:reference`,
      access: 'pull',
      query: SELECTOR,
      reads: 'question',
      async handle(ctx) {
        const db = ask(ctx)
        const reference = await readImageReference(ctx, images, db)
        const details = await images.details(db, viewOf(ctx), reference, selectorOf(ctx))
        const contents = await images.describe(db, details)
        ctx.body = imageDetails(ctx.state.caller, repositoryOf(ctx), details, contents)
        ctx.type = 'json'
      },
    },
    {
      method: 'GET',
      path: '/api/v1/kernels/:digest',
      access: 'publicRead',
      query: { ...PAGE, ...HIT_FILTER },
      reads: 'question',
      async handle(ctx) {
        const limit = pageLimit(ctx, LIMIT)
        const digest = parseDigest(param(ctx, 'digest'))
        const visible = pullablePatterns(ctx.state.caller)
        const filter = hitFilterOf(ctx)
        const before = cursors.read(ctx)
        const page = await images.listByKernel(ask(ctx), digest, filter, visible, before, limit)
        if (page.next !== undefined) nextPage(ctx, cursors.format(page.next), limit)
        ctx.body = {
          kernel: digest,
          images: page.images.map((image) => imageSummary(image, ctx.state.caller)),
        }
      },
    },
    {
      method: 'GET',
      path: '/api/v1/inputs/:inputId',
      access: 'publicRead',
      query: HIT_FILTER,
      reads: 'question',
      async handle(ctx) {
        const inputId = parseInputId(param(ctx, 'inputId'))
        const { caller } = ctx.state
        const filter = hitFilterOf(ctx)
        const named = queryOnce(ctx, 'repository') || undefined
        const own = named === undefined ? ownPatterns(caller) : [parsePrefixGlob(named)]
        const visible = pullablePatterns(caller)
        const found = await listReproductions(ask(ctx), builds, inputId, filter, visible, own)
        ctx.body = {
          inputId,
          reproducible: found.reproducible,
          outputs: found.outputs.map(({ kernel, own: isOwn, images: claimed }) => ({
            kernel,
            own: isOwn,
            images: claimed.map((image) => imageSummary(image, caller)),
          })),
          otherInputs: found.otherInputs.map((image) => imageSummary(image, caller)),
          builds: found.builds.map((build) => buildJson(build, caller)),
          more: found.more,
        }
      },
    },
  ]
}

function nextPage(ctx: RouteContext, last: string, limit: number): void {
  const query = new URLSearchParams(ctx.querystring)
  query.set('last', last)
  query.set('n', String(limit))
  setNextLink(ctx, [...query])
}

/** Parses a pattern of repositories. Throws NAME_INVALID, and QUERY_INVALID for stars in two places. */
function parsePrefixGlob(text: string): Glob {
  const glob = parseRepositoryGlob(text)
  if (/^[^*]*\**[^*]*$/.test(glob)) return glob
  throw invalidQuery('repository may have stars in one place, such as builds/**')
}

/**
 * Names the file for clients that save it (RFC 6266). The name in ASCII is for clients that do not read
 * RFC 8187's encoding. Control characters and hidden characters are left out.
 */
function setFileName(ctx: RouteContext, title: string): void {
  const name = withoutHiddenCharacters(baseName(title).replace(/\p{Cc}/gu, ''))
  ctx.attachment(name || undefined, { fallback: name.replace(/[^\x20-\x7e]/g, '_') })
}
