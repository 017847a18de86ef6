import type { RegistryApi } from '../../client/registry-api.ts'
import { type Digest, type DigestPrefix, isDigestPrefix, parseDigest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import { UsageError } from '../errors.ts'
import { withClientErrors } from './client-errors.ts'
import {
  findLogin,
  type LoginOptions,
  type NamedImage,
  parseNamedImage,
  readReference,
} from './login-options.ts'

/** Runs `work` with the API of an image's registry, logged in. Throws CommandError and UsageError. */
export function withImageApi(
  text: string,
  options: LoginOptions,
  environment: NodeJS.ProcessEnv,
  work: (api: RegistryApi, image: NamedImage) => Promise<number>,
): Promise<number> {
  return withClientErrors(async () => {
    const image = parseNamedImage(await readReference(text), options)
    const login = await findLogin(image, options, environment)
    // Loaded here, so that help does not load the HTTP client.
    const { RegistryApi } = await import('../../client/registry-api.ts')
    const api = new RegistryApi(image.reference, { login, environment })
    try {
      return await work(api, image)
    } finally {
      await api.close()
    }
  })
}

/** The same for a registry: its host, or a URL with a login. */
export async function withHostApi(
  text: string,
  options: LoginOptions,
  environment: NodeJS.ProcessEnv,
  work: (api: RegistryApi) => Promise<number>,
): Promise<number> {
  // Logins are stored by host, and nothing else asks for the repository.
  const host = await readReference(text)
  return withImageApi(`${host.replace(/\/+$/, '')}/any`, options, environment, work)
}

/** Returns the tag or digest of a reference that must have one. Throws UsageError. */
export function requiredTagOrDigest({ reference }: NamedImage): Tag | Digest | DigestPrefix {
  const found = reference.digest ?? reference.digestPrefix ?? reference.tag
  if (found === undefined) throw new UsageError('the reference must end with :TAG or @DIGEST')
  return found
}

/** Returns the tag of a reference that must have one. Throws UsageError. */
export function requiredTag({ reference }: NamedImage): Tag {
  if (reference.tag === undefined) throw new UsageError('the reference must end with :TAG')
  return reference.tag
}

/** The path of a repository's API, with `below` behind it. */
export function repositoryPath({ reference }: NamedImage, below: string): string {
  return `/api/v1/repositories/${reference.repository}/${below}`
}

/** A query string of the parameters that are defined. */
export function queryOf(parameters: Readonly<Record<string, string | undefined>>): string {
  const found = Object.entries(parameters).filter(([, value]) => value !== undefined)
  return found.length === 0 ? '' : `?${new URLSearchParams(found as [string, string][])}`
}

/** Parses an optional digest, which may be shortened. Throws RegistryError. */
export function parseDigestOption(text: string | undefined): Digest | DigestPrefix | undefined {
  return text === undefined || isDigestPrefix(text) ? text : parseDigest(text)
}

/** A digest in the length that people compare: 12 hexadecimal digits. */
export function shortDigest(digest: string): string {
  return digest.slice(0, digest.indexOf(':') + 13)
}
