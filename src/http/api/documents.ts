import { badRequest } from '../../oci/errors.ts'
import { visibleJson } from '../../oci/hidden-characters.ts'
import type { Images } from '../../registry/images/images.ts'
import type { DocumentContext } from '../../unikernel/documents/context.ts'
import { cycloneDx } from '../../unikernel/documents/cyclonedx.ts'
import type { JsonObject } from '../../unikernel/documents/json.ts'
import { slsaProvenance } from '../../unikernel/documents/slsa.ts'
import { spdx } from '../../unikernel/documents/spdx.ts'
import type { UnikernelImage } from '../../unikernel/image.ts'
import type { AskQuestion } from '../question-budget.ts'
import { param, type Route, type RouteContext, repositoryOf, viewOf } from '../route.ts'
import { parseLookupReference } from '../v2/manifests.ts'
import { selectorOf } from './images.ts'

type Format = {
  readonly mediaType: string
  write(image: UnikernelImage, context: DocumentContext): JsonObject
}

/** Document formats, by the name in the path. Documents are derived on request, and unsigned. */
const FORMATS: ReadonlyMap<string, Format> = new Map([
  ['cyclonedx', { mediaType: 'application/vnd.cyclonedx+json; version=1.6', write: cycloneDx }],
  ['spdx', { mediaType: 'application/spdx+json', write: spdx }],
  ['slsa', { mediaType: 'application/vnd.in-toto+json', write: slsaProvenance }],
])

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
      reads: 'question',
      async handle(ctx) {
        const format = formatOf(param(ctx, 'format'))
        const details = await images.read(
          ask(ctx),
          viewOf(ctx),
          parseLookupReference(ctx),
          selectorOf(ctx),
        )
        const { digest, mediaType, pushedAt, pushedBy, image } = details
        const { host, protocol } = new URL(publicBaseUrl(ctx))
        const document = format.write(image, {
          repository: repositoryOf(ctx),
          registry: host,
          scheme: protocol === 'http:' ? 'http' : 'https',
          digest,
          mediaType,
          pushedAt,
          pushedBy,
          version,
        })
        ctx.body = visibleJson(document)
        ctx.set({
          'Content-Type': format.mediaType,
          'Content-Disposition': `attachment; filename="${param(ctx, 'format')}.json"`,
        })
      },
    },
  ]
}

function formatOf(name: string): Format {
  const format = FORMATS.get(name)
  if (format !== undefined) return format
  throw badRequest(`a document must be one of ${[...FORMATS.keys()].join(', ')}`)
}
