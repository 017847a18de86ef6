import { apiPath } from '../../web/paths.ts'
import { RepositoryPage } from '../../web/repository.tsx'
import { imageSummary } from '../api/image-json.ts'
import { type Route, repositoryOf, viewOf } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { readReadme } from './read-readme.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const IMAGES = 10
/** Bytes of a README that the page shows. The whole file is a link. */
const README_BYTES_MAX = 6 * 1024

/** The page of a repository. */
export function repositoryPages({
  blobs,
  overviews,
  ask,
  clientBaseUrl,
}: Pick<PageDeps, 'blobs' | 'overviews' | 'ask' | 'clientBaseUrl'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/r/*repository',
      ...PAGE_ROUTE,
      access: 'pull',
      reads: 'question',
      async handle(ctx) {
        const [view, repository] = [viewOf(ctx), repositoryOf(ctx)]
        const found = await overviews.repository(ask(ctx), view, IMAGES)
        const readme = await readReadme(
          blobs,
          found.readme,
          apiPath(repository, `images/${found.readme?.image}/readme`),
          README_BYTES_MAX,
        )
        sendPage(ctx, {
          title: repository,
          json: apiPath(repository, 'images'),
          content: (
            <RepositoryPage
              base={clientBaseUrl(ctx)}
              repository={repository}
              visibility={found.visibility}
              images={found.images.map((image) => imageSummary(image, ctx.state.caller))}
              more={found.next !== undefined}
              followers={found.followers}
              readme={readme}
            />
          ),
        })
      },
    },
  ]
}
