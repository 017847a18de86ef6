import { badRequest } from '../../oci/errors.ts'
import { type Builds, OTHER_BUILDS } from '../../registry/builds/builds.ts'
import type { ImageDetails, Images } from '../../registry/images/images.ts'
import type { QuestionQueryable } from '../../registry/questions.ts'
import type { AskQuestion } from '../question-budget.ts'
import { queryOnce, type Route, type RouteContext, repositoryOf, viewOf } from '../route.ts'
import { withFields } from './image-json.ts'
import { readImageReference, SELECTOR, selectorOf } from './kernel-query.ts'

/** The other build has the same target and processor, but maybe another ABI. */
const ANY = { target: undefined, abiVersions: undefined, architecture: undefined }
const COMPARE = '/api/v1/repositories/*repository/images/:reference/compare'

/** Compares two images of a repository. */
export function comparisonRoutes(images: Images, builds: Builds, ask: AskQuestion): Route[] {
  const send = async (
    ctx: RouteContext,
    db: QuestionQueryable,
    from: ImageDetails,
    to: ImageDetails,
  ) => {
    const fields = { repository: repositoryOf(ctx), from: sideOf(from), to: sideOf(to) }
    ctx.body = withFields(fields, await images.compare(db, from, to))
    ctx.type = 'json'
  }
  return [
    {
      method: 'GET',
      path: `${COMPARE}/:other`,
      access: 'pull',
      query: SELECTOR,
      reads: 'question',
      async handle(ctx) {
        const selector = selectorOf(ctx)
        const view = viewOf(ctx)
        const db = ask(ctx)
        const [older, newer] = [
          await readImageReference(ctx, images, db),
          await readImageReference(ctx, images, db, 'other'),
        ]
        const from = await images.details(db, view, older, selector)
        await send(ctx, db, from, await images.details(db, view, newer, selector))
      },
    },
    {
      method: 'GET',
      path: COMPARE,
      access: 'pull',
      query: { ...SELECTOR, with: 'once' },
      reads: 'question',
      async handle(ctx) {
        const word = queryOnce(ctx, 'with') || 'previous'
        const which = OTHER_BUILDS.find((one) => one === word)
        if (which === undefined) {
          throw badRequest(`with must be one of ${OTHER_BUILDS.join(', ')}`)
        }
        const selector = selectorOf(ctx)
        const view = viewOf(ctx)
        const db = ask(ctx)
        const reference = await readImageReference(ctx, images, db)
        const image = await images.details(db, view, reference, selector)
        const digest = await builds.findOther(db, view, image, which)
        const other = await images.details(db, view, { kind: 'digest', digest }, ANY)
        const isOlder = which === 'previous'
        await send(ctx, db, isOlder ? other : image, isOlder ? image : other)
      },
    },
  ]
}

/** Formats one side: spec/openapi.yaml, ComparedImage. */
function sideOf({ digest, tags, pushedAt }: ImageDetails) {
  return { digest, tags, pushedAt }
}
