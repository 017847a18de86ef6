import { tagBoundsOf } from '../../auth/access.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { FormImage, ImageBuilder } from '../../registry/images/builder.ts'
import { parseBuildId } from '../build-id.ts'
import { ImageForm } from '../image-form.ts'
import { setMonitorLinks } from '../monitor-links.ts'
import { entityTag, parsePrecondition } from '../preconditions.ts'
import { actorOf, type Route, type RouteContext, repositoryOf } from '../route.ts'
import { queryTags } from '../tag-query.ts'

const PATH = '/api/v1/repositories/*repository/images'

/** Builds an image from one form, as `curl -F` sends it. */
export function imageBuildRoutes(builder: ImageBuilder): Route[] {
  return [
    {
      method: 'POST',
      path: PATH,
      access: 'push',
      storesContent: true,
      query: { tag: 'many' },
      tags: queryTags,
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        const tags = queryTags(ctx)
        const image = await builder.build({
          repository,
          tags,
          ...new ImageForm(ctx).contents(),
          buildId: parseBuildId(ctx),
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
  { digest, deployments }: Pick<FormImage, 'digest' | 'deployments'>,
): void {
  ctx.status = 201
  ctx.set({
    Location: `/v2/${repository}/manifests/${digest}`,
    'Docker-Content-Digest': digest,
    ETag: entityTag(digest),
  })
  setMonitorLinks(ctx, deployments)
}

/** Sends 201 with the Location, digest and layers of an image, and what its sender should know. */
export function sendBuiltImage(
  ctx: RouteContext,
  repository: Repository,
  tags: readonly Tag[],
  image: FormImage,
): void {
  sendImage(ctx, repository, image)
  const { digest, files, inputId, buildId, warnings, deployments } = image
  ctx.body = {
    ...{ repository, tags, digest, layers: files },
    ...{ inputId: inputId ?? null, build: buildId ?? null, warnings, deployments },
  }
}
