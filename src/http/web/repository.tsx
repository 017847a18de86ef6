import { type Blobs, readStart } from '../../registry/blobs.ts'
import type { RepositoryOverview } from '../../registry/overviews.ts'
import type { View } from '../../registry/repositories.ts'
import { apiPath } from '../../web/paths.ts'
import type { ReadmeText } from '../../web/readme.tsx'
import { RepositoryPage } from '../../web/repository.tsx'
import { imageSummary } from '../api/image-json.ts'
import { type Route, repositoryOf, viewOf } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const IMAGES = 10
/** Bytes of a README that the page shows. The whole file is a link. */
const README_BYTES_MAX = 6 * 1024

/** The page of a repository. */
export function repositoryPages({
  blobs,
  overviews,
  ask,
}: Pick<PageDeps, 'blobs' | 'overviews' | 'ask'>): Route[] {
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
        const readme = await readReadme(blobs, view, found.readme)
        sendPage(ctx, {
          title: repository,
          json: apiPath(repository, 'images'),
          content: (
            <RepositoryPage
              registry={ctx.host}
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

async function readReadme(
  blobs: Blobs,
  view: View,
  readme: RepositoryOverview['readme'],
): Promise<ReadmeText | undefined> {
  if (readme === null) return undefined
  const blob = blobs.open(readme)
  const markdown = await readStart(blob, README_BYTES_MAX)
  const path = apiPath(view.repository, `images/${readme.image}/readme`)
  return { markdown, path, isWhole: blob.size <= README_BYTES_MAX }
}
