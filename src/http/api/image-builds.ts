import { tagBoundsOf } from '../../auth/access.ts'
import { badRequest, type RegistryError } from '../../oci/errors.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { FormImage, ImageBuilder, IncomingImagePart } from '../../registry/images/builder.ts'
import { baseName, ROLES } from '../../unikernel/format.ts'
import { isTime } from '../../unikernel/time.ts'
import { parseFileTitle } from '../file-title.ts'
import { formParts } from '../multipart.ts'
import { entityTag, parsePrecondition } from '../preconditions.ts'
import { actorOf, type Route, type RouteContext, repositoryOf } from '../route.ts'
import { queryTags } from '../tag-query.ts'

const PATH = '/api/v1/repositories/*repository/images'
// `2026-05-20T18:07:42Z`: to the second, as oras writes it.
const TIME_LENGTH = 20

/** Builds an image from one form, as `curl -F` sends it. */
export function imageBuildRoutes(builder: ImageBuilder): Route[] {
  return [
    {
      method: 'POST',
      path: PATH,
      access: 'push',
      query: { tag: 'many' },
      tags: queryTags,
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        const tags = queryTags(ctx)
        const form = new ImageForm(ctx)
        const image = await builder.build({
          repository,
          tags,
          parts: form.files(),
          created: () => form.created,
          actor: actorOf(ctx),
          precondition: parsePrecondition(ctx.headers),
          bounds: tagBoundsOf(ctx.state.caller, 'push', repository),
        })
        sendBuiltImage(ctx, repository, tags, image)
      },
    },
  ]
}

/** Sends 201 with the Location and digest of an image. */
export function sendImage(
  ctx: RouteContext,
  repository: Repository,
  { digest }: Pick<FormImage, 'digest'>,
): void {
  ctx.status = 201
  ctx.set({
    Location: `/v2/${repository}/manifests/${digest}`,
    'Docker-Content-Digest': digest,
    ETag: entityTag(digest),
  })
}

/** Sends 201 with the Location, digest and layers of an image, and what its sender should know. */
export function sendBuiltImage(
  ctx: RouteContext,
  repository: Repository,
  tags: readonly Tag[],
  image: FormImage,
): void {
  sendImage(ctx, repository, image)
  const { digest, files, inputId, warnings } = image
  ctx.body = { repository, tags, digest, layers: files, inputId: inputId ?? null, warnings }
}

/** The form of an image: its files by role, and optionally the time. */
export class ImageForm {
  created: string | undefined
  readonly #ctx: RouteContext

  constructor(ctx: RouteContext) {
    this.#ctx = ctx
  }

  /** Streams the files in the order of the form. Throws REQUEST_INVALID for an unknown part. */
  async *files(): AsyncGenerator<IncomingImagePart> {
    for await (const part of formParts(this.#ctx)) {
      if (part.kind === 'value') {
        this.#value(part.name, part.value)
        continue
      }
      const role = PART_ROLES.find((one) => one === part.name)
      if (role === undefined) throw unknownPart(part.name)
      const title = parseFileTitle(baseName(part.fileName ?? role))
      yield { role, title, body: { bytes: part.bytes, start: undefined, length: undefined } }
    }
  }

  #value(name: string, value: string): void {
    if (name === 'created') {
      if (!isTime(value) || value.length !== TIME_LENGTH) {
        throw badRequest('created must be a time such as 2026-05-20T18:07:42Z')
      }
      if (this.created !== undefined) throw badRequest('created is given twice')
      this.created = value
    } else if (PART_ROLES.some((one) => one === name)) {
      throw badRequest(`${name} must be a file: send it with -F ${name}=@FILE`)
    } else throw unknownPart(name)
  }
}

const PART_ROLES = [...ROLES, 'config'] as const

function unknownPart(name: string): RegistryError {
  const names = [...PART_ROLES, 'created'].join(', ')
  return badRequest(`part ${JSON.stringify(name.slice(0, 80))} must be one of ${names}`)
}
