import { maySeeActors } from '../../auth/access.ts'
import { ImagePage } from '../../web/image.tsx'
import { ImagesPage } from '../../web/images.tsx'
import { apiPath } from '../../web/paths.ts'
import { IMAGE_FILTER, imageFilterOf } from '../api/image-filter.ts'
import { imageSummary } from '../api/image-json.ts'
import { readImageReference, selectorOf } from '../api/kernel-query.ts'
import { type Route, repositoryOf, viewOf } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { nextPath } from './next-path.ts'
import { readReadme } from './read-readme.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const IMAGES_A_PAGE = 40
/** Bytes of a README that the page of an image shows. */
const README_BYTES_MAX = 1024

/** The pages of the images of a repository. */
export function imagePages({
  blobs,
  images,
  ask,
  pageCursors,
  clientBaseUrl,
}: Pick<PageDeps, 'blobs' | 'images' | 'ask' | 'pageCursors' | 'clientBaseUrl'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/r/*repository/-/images',
      ...PAGE_ROUTE,
      access: 'pull',
      reads: 'question',
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        const filter = imageFilterOf(ctx, undefined)
        const page = await images.list(
          ask(ctx),
          viewOf(ctx),
          filter,
          pageCursors.read(ctx),
          IMAGES_A_PAGE,
        )
        const next =
          page.next === undefined
            ? undefined
            : nextPath(ctx, pageCursors.format(page.next), Object.keys(IMAGE_FILTER))
        sendPage(ctx, {
          title: `Images of ${repository}`,
          json: apiPath(repository, 'images'),
          next,
          content: (
            <ImagesPage
              repository={repository}
              images={page.images.map((image) => imageSummary(image, ctx.state.caller))}
              filter={filter}
              next={next}
            />
          ),
        })
      },
    },
    {
      method: 'GET',
      path: '/r/*repository/-/images/:reference',
      ...PAGE_ROUTE,
      access: 'pull',
      reads: 'question',
      async handle(ctx) {
        const [repository, view, db] = [repositoryOf(ctx), viewOf(ctx), ask(ctx)]
        const reference = await readImageReference(ctx, images, db)
        const details = await images.details(db, view, reference, selectorOf(ctx))
        const [neighbours, outline] = await Promise.all([
          images.neighbours(db, details),
          images.outline(db, details, repository.slice(repository.lastIndexOf('/') + 1)),
        ])
        const { digest, tags, pushedAt, pushedBy, container, containerProblem } = details
        const { previous, referrers, moreReferrers, builds } = neighbours
        const showsActor = maySeeActors(ctx.state.caller, repository)
        const json = apiPath(repository, `images/${digest}`)
        const readme = await readReadme(
          blobs,
          neighbours.readme,
          `${json}/readme`,
          README_BYTES_MAX,
        )
        sendPage(ctx, {
          title: `${repository}, image ${digest.slice(0, 19)}`,
          json,
          content: (
            <ImagePage
              base={clientBaseUrl(ctx)}
              repository={repository}
              digest={digest}
              tags={tags}
              pushedAt={pushedAt}
              pushedBy={showsActor ? pushedBy : null}
              container={container}
              containerProblem={containerProblem}
              outline={outline}
              previous={previous}
              referrers={referrers}
              moreReferrers={moreReferrers}
              builds={builds.map((build) => ({
                ...build,
                builder: showsActor ? build.builder : null,
              }))}
              readme={readme}
            />
          ),
        })
      },
    },
  ]
}
