import { allowsTag, maySeeActors, maySeeHosts } from '../../auth/access.ts'
import { parseDigest } from '../../oci/digest.ts'
import { parseTag } from '../../oci/reference.ts'
import { apiPath, tagPath } from '../../web/paths.ts'
import { TagPage } from '../../web/tag.tsx'
import { TagsPage } from '../../web/tags.tsx'
import { readForm } from '../api/form-fields.ts'
import {
  actorOf,
  param,
  queryOnce,
  type Route,
  type RouteContext,
  repositoryOf,
  viewOf,
} from '../route.ts'
import type { PageDeps } from './deps.ts'
import { nextPath } from './next-path.ts'
import { positionAt, runsOfPosition } from './position-runs.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const TAGS_A_PAGE = 50
const POSITIONS_A_PAGE = 25
const DEPLOYMENTS = 25
const TAG = '/r/*repository/-/tags/:tag'

/** The pages of tags, and the form that sets a tag to an earlier image. */
export function tagPages({
  overviews,
  tagHistory,
  deployments,
  ask,
  pageCursors,
}: Pick<PageDeps, 'overviews' | 'tagHistory' | 'deployments' | 'ask' | 'pageCursors'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/r/*repository/-/tags',
      ...PAGE_ROUTE,
      access: 'pull',
      reads: 'question',
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        const last = queryOnce(ctx, 'last') ?? ''
        const { items, more } = await overviews.tags(ask(ctx), viewOf(ctx), {
          last,
          limit: TAGS_A_PAGE,
        })
        const next = more ? nextPath(ctx, items.at(-1)?.tag) : undefined
        sendPage(ctx, {
          title: `Tags of ${repository}`,
          json: `/v2/${repository}/tags/list`,
          next,
          content: <TagsPage repository={repository} tags={items} next={next} />,
        })
      },
    },
    {
      method: 'GET',
      path: TAG,
      ...PAGE_ROUTE,
      access: 'pull',
      reads: 'question',
      async handle(ctx) {
        const [repository, view, tag] = [repositoryOf(ctx), viewOf(ctx), tagOf(ctx)]
        const { caller } = ctx.state
        const [db, before] = [ask(ctx), pageCursors.read(ctx)]
        const [history, followers, made] = await Promise.all([
          tagHistory.list(db, view, tag, before, POSITIONS_A_PAGE, maySeeHosts(caller, repository)),
          overviews.followers(db, view, tag),
          // As in the API: only callers with a credential see deployments.
          caller.kind === 'anonymous'
            ? []
            : deployments.watch.listOf(db, view, { tag, digest: undefined }, DEPLOYMENTS),
        ])
        const showsActor = maySeeActors(caller, repository)
        const last = history.items.at(-1)
        const next =
          history.more && last !== undefined
            ? nextPath(ctx, pageCursors.format(last.id))
            : undefined
        sendPage(ctx, {
          title: `${repository}:${tag}`,
          json: apiPath(repository, `tags/${tag}/history`),
          next,
          content: (
            <TagPage
              registry={ctx.host}
              repository={repository}
              tag={tag}
              positions={history.items.map((position, _index, all) => ({
                ...position,
                actor: showsActor ? position.actor : null,
                present: position.digest !== null && position.mediaType !== null,
                ran: runsOfPosition(ctx, position, all),
                deployments: made.filter(
                  ({ digest, createdAt }) => positionAt(all, digest, createdAt) === position,
                ),
              }))}
              isNewest={before === undefined}
              next={next}
              followers={followers}
              mayMove={allowsTag(caller, 'push', repository, tag)}
            />
          ),
        })
      },
    },
    {
      method: 'POST',
      path: `${TAG}/rollback`,
      ...PAGE_ROUTE,
      access: 'push',
      tags: (ctx) => [tagOf(ctx)],
      async handle(ctx) {
        const [repository, tag] = [repositoryOf(ctx), tagOf(ctx)]
        const digest = await readForm(ctx, (fields) => fields.optionalText('digest') || undefined)
        await tagHistory.rollback({
          repository,
          tag,
          digest: digest === undefined ? undefined : parseDigest(digest),
          actor: actorOf(ctx),
          precondition: { kind: 'none' },
        })
        ctx.status = 303
        ctx.redirect(tagPath(repository, tag))
      },
    },
  ]
}

function tagOf(ctx: RouteContext) {
  return parseTag(param(ctx, 'tag'))
}
