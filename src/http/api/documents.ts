import { Buffer } from 'node:buffer'
import { maySeeActors } from '../../auth/access.ts'
import { badRequest } from '../../oci/errors.ts'
import type { DocumentFormat, Images } from '../../registry/images/images.ts'
import type { AskQuestion } from '../question-budget.ts'
import { param, type Route, type RouteContext, repositoryOf, viewOf } from '../route.ts'
import { readImageReference, SELECTOR, selectorOf } from './kernel-query.ts'

/** Media types by the name in the path. Documents are derived on request, and unsigned. */
const MEDIA_TYPES: Readonly<Record<DocumentFormat, string>> = {
  cyclonedx: 'application/vnd.cyclonedx+json; version=1.6',
  spdx: 'application/spdx+json',
  slsa: 'application/vnd.in-toto+json',
}

/** Serves SBOMs and provenance of images, derived from their analyses. */
export function documentRoutes(
  images: Images,
  ask: AskQuestion,
  publicBaseUrl: (ctx: RouteContext) => string,
  version: string,
): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/repositories/*repository/images/:reference/documents/:format',
      access: 'pull',
      query: SELECTOR,
      reads: 'question',
      async handle(ctx) {
        const format = formatOf(param(ctx, 'format'))
        const db = ask(ctx)
        const reference = await readImageReference(ctx, images, db)
        const details = await images.details(db, viewOf(ctx), reference, selectorOf(ctx))
        const { digest, mediaType, pushedAt, pushedBy } = details
        const { host, protocol } = new URL(publicBaseUrl(ctx))
        const json = await images.document(db, details, format, {
          repository: repositoryOf(ctx),
          registry: host,
          scheme: protocol === 'http:' ? 'http' : 'https',
          digest,
          mediaType,
          pushedAt,
          pushedBy: maySeeActors(ctx.state.caller, repositoryOf(ctx)) ? pushedBy : undefined,
          version,
        })
        ctx.body = Buffer.from(json.buffer, json.byteOffset, json.length)
        ctx.set({
          'Content-Type': MEDIA_TYPES[format],
          'Content-Disposition': `attachment; filename="${format}.json"`,
        })
      },
    },
  ]
}

function formatOf(name: string): DocumentFormat {
  if (isFormat(name)) return name
  throw badRequest(`a document must be one of ${Object.keys(MEDIA_TYPES).join(', ')}`)
}

function isFormat(name: string): name is DocumentFormat {
  return Object.hasOwn(MEDIA_TYPES, name)
}
