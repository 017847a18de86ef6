import { Buffer } from 'node:buffer'
import { notFound, unavailable } from '../../oci/errors.ts'
import type { Images } from '../../registry/images/images.ts'
import type { Pictures } from '../../registry/images/pictures.ts'
import type { AskQuestion } from '../question-budget.ts'
import { type Route, viewOf } from '../route.ts'
import { withFields } from './image-json.ts'
import { readImageReference, SELECTOR, selectorOf } from './kernel-query.ts'

const RETRY_SECONDS = 2

/** Serves the sizes of the parts of an image's program. */
export function sizeRoutes(images: Images, pictures: Pictures, ask: AskQuestion): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/repositories/*repository/images/:reference/sizes',
      access: 'pull',
      query: SELECTOR,
      reads: 'question',
      async handle(ctx) {
        const db = ask(ctx)
        const reference = await readImageReference(ctx, images, db)
        const { id, digest } = await images.find(viewOf(ctx), reference, selectorOf(ctx), db)
        const found = await pictures.find(db, { id }, 'sizes')
        if (found.state === 'being made') {
          const message = 'the sizes are being computed, try again'
          throw unavailable(message, { retryAfterSeconds: RETRY_SECONDS })
        }
        if (found.state !== 'made' || found.facts === null) {
          const problem = found.state === 'refused' ? found.problem : 'the image has no kernel'
          throw notFound(`the sizes are unknown: ${problem}`)
        }
        ctx.body = withFields({ digest, file: found.of }, Buffer.from(found.facts))
        ctx.type = 'json'
      },
    },
  ]
}
