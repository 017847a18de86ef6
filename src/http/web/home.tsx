import { existsSync } from 'node:fs'
import { listablePatterns, pullablePatterns } from '../../auth/access.ts'
import { mayManageHost } from '../../auth/hosts/host-rights.ts'
import { ANY_IMAGE } from '../../registry/images/images.ts'
import { HomePage } from '../../web/home.tsx'
import { RepositoriesPage } from '../../web/repositories.tsx'
import { hostRequesterOf } from '../api/enrolments.ts'
import { imageSummary } from '../api/image-json.ts'
import { queryOnce, type Route } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { nextPath } from './next-path.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const IMAGES = 15
const REPOSITORIES = 60
const REPOSITORIES_A_PAGE = 200
/** Only a clone has it. */
const SAMPLE_BUILD = 'test/fixtures/builds/hello-key-1'
const HAS_SAMPLE_BUILD = existsSync(new URL(`../../../${SAMPLE_BUILD}`, import.meta.url))

/** The start page, and the list of all repositories. */
export function homePages({
  images,
  listings,
  overviews,
  ask,
}: Pick<PageDeps, 'images' | 'listings' | 'overviews' | 'ask'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/',
      ...PAGE_ROUTE,
      access: 'publicRead',
      reads: 'question',
      async handle(ctx) {
        const { caller } = ctx.state
        const db = ask(ctx)
        const isLoggedIn = caller.kind !== 'anonymous'
        const grants = isLoggedIn ? hostRequesterOf(ctx).grants : []
        const [latest, repositories, attention] = await Promise.all([
          images.search(
            db,
            ANY_IMAGE,
            pullablePatterns(caller),
            { repositories: undefined, membersOnly: false },
            undefined,
            IMAGES,
          ),
          listings.repositories(db, listablePatterns(caller), { last: '', limit: REPOSITORIES }),
          // As in the API: only callers with a credential see deployments.
          overviews.attention(db, pullablePatterns(caller), {
            seesDeployments: isLoggedIn,
            seesHosts: isLoggedIn && mayManageHost(grants, []),
          }),
        ])
        const hosts = attention.hosts.filter(({ repositories: globs }) =>
          mayManageHost(grants, globs),
        )
        sendPage(ctx, {
          title: 'Start',
          json: '/api/v1/images',
          content: (
            <HomePage
              registry={ctx.host}
              images={latest.images.map((image) => imageSummary(image, caller))}
              repositories={repositories.items}
              more={repositories.more}
              isLoggedIn={isLoggedIn}
              sampleBuild={HAS_SAMPLE_BUILD ? SAMPLE_BUILD : undefined}
              attention={{ ...attention, hosts }}
            />
          ),
        })
      },
    },
    {
      method: 'GET',
      path: '/repositories',
      ...PAGE_ROUTE,
      access: 'publicRead',
      reads: 'question',
      async handle(ctx) {
        const last = queryOnce(ctx, 'last') ?? ''
        const { items, more } = await listings.repositories(
          ask(ctx),
          listablePatterns(ctx.state.caller),
          { last, limit: REPOSITORIES_A_PAGE },
        )
        const next = more ? nextPath(ctx, items.at(-1)) : undefined
        sendPage(ctx, {
          title: 'Repositories',
          json: '/v2/_catalog',
          next,
          content: <RepositoriesPage repositories={items} next={next} />,
        })
      },
    },
  ]
}
