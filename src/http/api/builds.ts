import { type Caller, maySeeActors, tagBoundsOf } from '../../auth/access.ts'
import { parseDigest } from '../../oci/digest.ts'
import { badRequest } from '../../oci/errors.ts'
import { isUuidInAnyCase } from '../../oci/uuid.ts'
import type { BuildFilter, BuildRow, Builds } from '../../registry/builds/builds.ts'
import type { ImageBuilder } from '../../registry/images/builder.ts'
import { FAILED_RESULTS, isPlatform } from '../../unikernel/build-claims.ts'
import { parseBuildId } from '../build-id.ts'
import { ImageForm } from '../image-form.ts'
import { type PageCursors, pageLimit, setNextLink } from '../pages.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import {
  actorOf,
  param,
  queryOnce,
  type Route,
  type RouteContext,
  repositoryOf,
  viewOf,
} from '../route.ts'
import { builderOf, parseInputId } from './build-query.ts'

const BUILDS = '/api/v1/repositories/*repository/builds'
const LIMIT = 100
const RESULTS = ['succeeded', ...FAILED_RESULTS] as const

/** Lists and describes builds, and takes reports of failed ones. */
export function buildRoutes(
  builds: Builds,
  builder: ImageBuilder,
  ask: AskQuestion,
  cursors: PageCursors,
): Route[] {
  return [
    {
      method: 'GET',
      path: BUILDS,
      access: 'pull',
      query: {
        ...PAGE,
        platform: 'once',
        result: 'once',
        builder: 'once',
        input: 'once',
        kernel: 'once',
      },
      reads: 'question',
      async handle(ctx) {
        const limit = pageLimit(ctx, LIMIT)
        const filter = filterOf(ctx)
        const page = await builds.list(ask(ctx), viewOf(ctx), filter, cursors.read(ctx), limit)
        if (page.next !== undefined) {
          const query = Object.fromEntries(new URLSearchParams(ctx.querystring))
          setNextLink(ctx, { ...query, last: cursors.format(page.next), n: String(limit) })
        }
        ctx.body = { builds: page.builds.map((build) => buildJson(build, ctx.state.caller)) }
      },
    },
    {
      method: 'POST',
      path: BUILDS,
      access: 'push',
      storesContent: true,
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        const { digest, files, inputId, buildId } = await builder.build({
          repository,
          tags: [],
          ...new ImageForm(ctx, 'failed build').contents(),
          actor: actorOf(ctx),
          precondition: { kind: 'none' },
          bounds: tagBoundsOf(ctx.state.caller, 'push', repository),
          buildId: parseBuildId(ctx),
        })
        if (buildId === undefined) throw new Error('a report of a failed build recorded no build')
        ctx.status = 201
        ctx.set({
          Location: `/api/v1/repositories/${repository}/builds/${buildId}`,
          'Docker-Content-Digest': digest,
        })
        ctx.body = { repository, build: buildId, digest, layers: files, inputId: inputId ?? null }
      },
    },
    {
      method: 'GET',
      path: `${BUILDS}/:build`,
      access: 'pull',
      reads: 'rows',
      async handle(ctx) {
        const build = await builds.find(viewOf(ctx), buildOf(ctx))
        ctx.body = buildJson(build, ctx.state.caller)
      },
    },
  ]
}

/** Formats a build for a caller: spec/openapi.yaml, Build. */
export function buildJson(build: BuildRow, caller: Caller) {
  const { repository, id, digest, exists, kernelDigest, inputId, platform } = build
  const { result, exitCode, signal, message, startedAt, finishedAt, recordedAt } = build
  const builder = maySeeActors(caller, repository) ? build.builder : null
  return {
    ...{ repository, id, result, exitCode, signal, message, builder, platform, inputId },
    // Null when the manifest was deleted.
    digest: exists ? digest : null,
    kernel: kernelDigest === null ? null : { digest: kernelDigest },
    ...{ startedAt, finishedAt, recordedAt },
  }
}

/** Reads the id of a build from the path. Throws REQUEST_INVALID. */
export function buildOf(ctx: RouteContext): string {
  const id = param(ctx, 'build')
  if (!isUuidInAnyCase(id)) throw badRequest('the id of a build must be a UUID')
  return id.toLowerCase()
}

/** Parses the filter of a list. Throws QUERY_INVALID, and UNAUTHORIZED or DENIED for a builder of others. */
function filterOf(ctx: RouteContext): BuildFilter {
  const [platform, result, inputId, kernel] = ['platform', 'result', 'input', 'kernel'].map(
    (name) => queryOnce(ctx, name) || undefined,
  )
  if (platform !== undefined && !isPlatform(platform)) {
    throw badRequest('platform must be a word such as debian-12')
  }
  const wanted = RESULTS.find((one) => one === result)
  if (result !== undefined && wanted === undefined) {
    throw badRequest(`result must be one of ${RESULTS.join(', ')}`)
  }
  return {
    platform,
    result: wanted,
    builder: builderOf(ctx),
    inputId: inputId === undefined ? undefined : parseInputId(inputId),
    kernelDigest: kernel === undefined ? undefined : parseDigest(kernel),
  }
}
