import { pullablePatterns } from '../../auth/access.ts'
import { versionMatcher } from '../../registry/images/package-search.ts'
import { PackagePage } from '../../web/package.tsx'
import { PackagesPage } from '../../web/packages.tsx'
import { packageVersionsPath } from '../../web/paths.ts'
import { HIT_FILTER } from '../api/hit-query.ts'
import { packageHit } from '../api/image-json.ts'
import {
  formatPackageCursor,
  packageQueryOf,
  parseEcosystem,
  readPackageCursor,
} from '../api/packages.ts'
import { queryOnce, type Route } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { nextPath } from './next-path.ts'
import { listRunsForPage } from './running.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const IMAGES_A_PAGE = 20

/** The page of a package, and the form that asks for one. */
export function packagePages({
  packageSearch,
  ask,
  pageCursors,
}: Pick<PageDeps, 'packageSearch' | 'ask' | 'pageCursors'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/packages',
      ...PAGE_ROUTE,
      access: 'publicRead',
      reads: 'nothing',
      handle(ctx) {
        const [ecosystem, name, version] = ['ecosystem', 'name', 'version'].map(
          (field) => queryOnce(ctx, field)?.trim() || undefined,
        )
        if (name !== undefined) {
          ctx.status = 303
          ctx.redirect(packageVersionsPath(parseEcosystem(ecosystem ?? 'opam'), name, version))
          return
        }
        sendPage(ctx, { title: 'Packages', content: <PackagesPage /> })
      },
    },
    {
      method: 'GET',
      path: '/packages/:ecosystem/:name',
      ...PAGE_ROUTE,
      access: 'publicRead',
      reads: 'question',
      async handle(ctx) {
        const query = packageQueryOf(ctx)
        const { ecosystem, name, version } = query
        const visible = pullablePatterns(ctx.state.caller)
        const before = readPackageCursor(ctx, pageCursors)
        const isWanted = version === undefined ? undefined : versionMatcher(ecosystem, version)
        const asked = { running: '1', package: name, ecosystem, ...(version && { version }) }
        const [page, running] = await Promise.all([
          packageSearch.listImages(ask(ctx), query, visible, before, IMAGES_A_PAGE),
          before === undefined
            ? listRunsForPage(ctx, ask, {
                running: true,
                package: { ecosystem, name, isWanted },
                json: `/api/v1/runs?${new URLSearchParams(asked)}`,
              })
            : undefined,
        ])
        const last = page.next && formatPackageCursor(pageCursors, page.next)
        const next = nextPath(ctx, last, ['version', ...Object.keys(HIT_FILTER)])
        sendPage(ctx, {
          title: `${name} (${ecosystem})`,
          json: `/api/v1${packageVersionsPath(ecosystem, name, version)}`,
          next,
          content: (
            <PackagePage
              ecosystem={ecosystem}
              name={name}
              version={version}
              images={page.hits.map(packageHit)}
              truncated={page.truncated}
              isNewest={before === undefined}
              next={next}
              running={running}
            />
          ),
        })
      },
    },
  ]
}
