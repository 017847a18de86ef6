import { maySeeActors } from '../../auth/access.ts'
import { isDigestPrefix, parseDigest } from '../../oci/digest.ts'
import { invalidQuery } from '../../oci/errors.ts'
import { IMAGE_INDEX } from '../../oci/media-type.ts'
import { parseTag } from '../../oci/reference.ts'
import type { TagHistory, TagPosition } from '../../registry/tag-history.ts'
import { setMonitorLinks } from '../monitor-links.ts'
import { type PageCursors, pageLimit, setNextLink } from '../pages.ts'
import { entityTag, parsePrecondition } from '../preconditions.ts'
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
import { readOptionalFields } from './json-fields.ts'

const TAG = '/api/v1/repositories/*repository/tags/:tag'
const LIMIT = 100
const ANNOTATION = 'org.opencontainers.distribution.tag'
/** Filters of the proposal that the registry refuses. */
const FILTERS = ['before', 'since', 'digest']

/** Lists the history of a tag, and rolls it back. */
export function tagRoutes(history: TagHistory, ask: AskQuestion, cursors: PageCursors): Route[] {
  const page = async (ctx: RouteContext) => {
    const limit = pageLimit(ctx, LIMIT)
    const tag = parseTag(param(ctx, 'tag'))
    const found = await history.list(ask(ctx), viewOf(ctx), tag, cursors.read(ctx), limit)
    const last = found.items.at(-1)
    if (found.more && last !== undefined)
      setNextLink(ctx, { last: cursors.format(last.id), n: String(limit) })
    return { tag, positions: found.items }
  }
  return [
    {
      method: 'GET',
      path: '/v2/*repository/_oci/tag-history/:tag',
      access: 'pull',
      query: 'any',
      reads: 'question',
      async handle(ctx) {
        assertUnfiltered(ctx)
        const { positions } = await page(ctx)
        ctx.body = JSON.stringify({
          schemaVersion: 2,
          mediaType: IMAGE_INDEX,
          manifests: positions.map(descriptorOf),
        })
        ctx.set('Content-Type', IMAGE_INDEX)
      },
    },
    {
      method: 'GET',
      path: `${TAG}/history`,
      access: 'pull',
      query: PAGE,
      reads: 'question',
      async handle(ctx) {
        const { tag, positions } = await page(ctx)
        const repository = repositoryOf(ctx)
        const showsActor = maySeeActors(ctx.state.caller, repository)
        ctx.body = {
          repository,
          tag,
          positions: positions.map((position) => positionOf(position, showsActor)),
        }
      },
    },
    {
      method: 'POST',
      path: `${TAG}/rollback`,
      access: 'push',
      tags: (ctx) => [parseTag(param(ctx, 'tag'))],
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        const tag = parseTag(param(ctx, 'tag'))
        const { digest, previousDigest, deployments } = await history.rollback({
          repository,
          tag,
          digest: await wantedDigest(ctx),
          actor: actorOf(ctx),
          precondition: parsePrecondition(ctx.headers),
        })
        ctx.set({ 'Docker-Content-Digest': digest, ETag: entityTag(digest) })
        setMonitorLinks(ctx, deployments)
        ctx.body = {
          ...{ repository, tag, digest },
          ...{ previousDigest: previousDigest ?? null, deployments },
        }
      },
    },
  ]
}

/** Parses the optional body, which names a digest other than the previous one. */
async function wantedDigest(ctx: RouteContext) {
  const digest = await readOptionalFields(ctx, (fields) => fields.optionalText('digest'))
  if (digest === undefined || isDigestPrefix(digest)) return digest
  return parseDigest(digest)
}

/** A client that pages with an ignored filter would read the first page endlessly. Throws QUERY_INVALID. */
function assertUnfiltered(ctx: RouteContext): void {
  const filter = FILTERS.find((name) => queryOnce(ctx, name) !== undefined)
  if (filter === undefined) return
  throw invalidQuery(`${filter} does not filter a tag's history; follow the Link header`, {
    parameter: filter,
  })
}

/**
 * Formats a position as proposed for the distribution spec: the digest that the tag was set to, or from
 * which it was deleted. A manifest that was deleted has no media type and size.
 */
function descriptorOf({ digest, previousDigest, mediaType, size, movedAt }: TagPosition) {
  const properties = mediaType === null ? {} : { mediaType, size }
  const annotations = {
    [`${ANNOTATION}.timestamp`]: movedAt,
    [`${ANNOTATION}.event`]: digest === null ? 'deleted' : 'created',
  }
  return { ...properties, digest: digest ?? previousDigest, annotations }
}

function positionOf(position: TagPosition, showsActor: boolean) {
  const { digest, previousDigest, actor, reason, movedAt, mediaType } = position
  return {
    digest,
    previousDigest,
    reason,
    movedAt,
    present: digest !== null && mediaType !== null,
    ...(showsActor ? { actor } : {}),
  }
}
