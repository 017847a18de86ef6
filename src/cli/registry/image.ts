import { formatReference } from '../../client/image-reference.ts'
import type { RemoteRepository } from '../../client/remote-repository.ts'
import type { Digest } from '../../oci/digest.ts'
import { argument, command, JSON_OPTION } from '../command.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { LIMIT_OPTION, MORE_LINE } from '../numbers.ts'
import { printJson, printLines, printResult, visible } from '../printing.ts'
import { repositoryPath, requiredTagOrDigest, withImageApi } from './api-client.ts'
import type { ListedImage } from './api-types.ts'
import { IMAGE_FILTERS, imageQuery } from './image-filters.ts'
import { printImages } from './image-table.ts'
import { LOGIN_OPTIONS, type NamedImage } from './login-options.ts'
import { PLATFORM_OPTIONS } from './platform-options.ts'
import { removeFrom, withRemoteRepository } from './removal.ts'

/** `rookery image delete`: an image with all of its tags. */
export const deleteCommand = command({
  arguments: { image: argument('HOST/REPOSITORY@DIGEST', 'image; with :TAG, the one of the tag') },
  options: { ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes:
    'All tags of the image are deleted with it. Rookery refuses an image with an immutable tag, and one that the image of another tag contains, such as a part of an index: delete that tag first. rookery tag delete deletes one tag and keeps the image.',
  examples: [
    ['rookery image delete registry.example.org/builds/www:v1', 'delete the image of the tag v1'],
  ],
  run(values, environment) {
    return withRemoteRepository(values.image, values, environment, async (repository, image) => {
      const digest = await digestOfImage(repository, image)
      const { tags } = await removeFrom(repository, digest)
      const named =
        tags === undefined || tags.length === 0 ? '' : ` and its tags ${tags.join(', ')}`
      printResult(values.json, { digest, tags: tags ?? null }, [
        visible(`Deleted image ${digest}${named}`),
      ])
      return STATUS.ok
    })
  },
})

/** Returns the digest of a reference, or of its tag. Throws CommandError when the tag does not exist. */
async function digestOfImage(repository: RemoteRepository, image: NamedImage): Promise<Digest> {
  const { digest, digestPrefix, tag } = image.reference
  if (digestPrefix !== undefined) throw new UsageError('an image is deleted by its whole digest')
  if (digest !== undefined && tag !== undefined)
    throw new UsageError('give :TAG or @DIGEST, not both')
  if (digest !== undefined) return digest
  const found = await repository.findManifest(requiredTagOrDigest(image))
  if (found !== undefined) return found.digest
  throw new CommandError(`${image.reference.host} has no ${formatReference(image.reference)}`)
}

/** `rookery image list`: the unikernels of a repository. */
export const listCommand = command({
  arguments: { repository: argument('HOST/REPOSITORY', 'repository') },
  options: {
    ...PLATFORM_OPTIONS,
    ...IMAGE_FILTERS,
    ...LIMIT_OPTION,
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  examples: [
    ['rookery image list registry.example.org/builds/www', 'list all images'],
    [
      'rookery image list registry.example.org/builds/www --target hvt --device net',
      'list those for hvt that have a network device',
    ],
  ],
  run(values, environment) {
    return withImageApi(values.repository, values, environment, async (api, image) => {
      const { limit, json } = values
      const path = repositoryPath(image, `images${imageQuery(values)}`)
      const { items, more } = await api.listUpTo(path, 'images', 'the list of images', limit)
      if (json) printJson({ images: items, more })
      else printImages(items as ListedImage[])
      if (!json && more) printLines([MORE_LINE])
      return STATUS.ok
    })
  },
})
