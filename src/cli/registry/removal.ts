import type { RemoteRepository } from '../../client/remote-repository.ts'
import { isObject } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import { withClientErrors } from './client-errors.ts'
import {
  findLogin,
  type LoginOptions,
  type NamedImage,
  parseNamedImage,
  readReference,
} from './login-options.ts'

/** The deleted manifest and tags, as the registry reports them. */
export type Removal = {
  /** The digest of the manifest; for a tag, of the manifest that it had. Undefined: the registry does not say. */
  readonly digest: string | undefined
  /** The tags that were deleted. Undefined: the registry does not say. */
  readonly tags: readonly string[] | undefined
}

/** Runs `work` with the repository of an image, logged in. Throws CommandError and UsageError. */
export function withRemoteRepository(
  text: string,
  options: LoginOptions,
  environment: NodeJS.ProcessEnv,
  work: (repository: RemoteRepository, image: NamedImage) => Promise<number>,
): Promise<number> {
  return withClientErrors(async () => {
    const image = parseNamedImage(await readReference(text), options)
    const login = await findLogin(image, options, environment)
    // Loaded here, so that help does not load the HTTP client.
    const { RemoteRepository } = await import('../../client/remote-repository.ts')
    const { reference } = image
    const repository = new RemoteRepository(reference, reference.repository, {
      login,
      environment,
      actions: 'pull,delete',
    })
    try {
      return await work(repository, image)
    } finally {
      await repository.close()
    }
  })
}

/** Deletes a tag or a manifest. Rookery reports the tags that went with it, and other registries nothing. */
export async function removeFrom(
  repository: RemoteRepository,
  reference: Tag | Digest,
  expected?: Digest,
): Promise<Removal> {
  return parseRemoval(await repository.remove(reference, expected))
}

function parseRemoval(text: string): Removal {
  const body = parsed(text)
  const { digest, tags } = isObject(body) ? body : {}
  return {
    digest: typeof digest === 'string' ? digest : undefined,
    tags: Array.isArray(tags) ? tags.filter((tag) => typeof tag === 'string') : undefined,
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The response of another registry, which is usually empty.
    return undefined
  }
}
