import { RegistryApi } from '../../client/registry-api.ts'
import { type Digest, parseDigest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import { UsageError } from '../command.ts'
import { forUsers } from './registry-commands.ts'
import { findLogin, type LoginOptions, type NamedImage, parseNamedImage } from './registry-login.ts'

/** More than anybody reads; a program asks the API page by page. */
export const LISTED_MAX = 10_000
export const LISTED_DEFAULT = 100

/** Runs `work` with the API of the registry of an image, logged in; failures are one line. */
export function withApi(
  named: () => NamedImage,
  options: LoginOptions,
  environment: NodeJS.ProcessEnv,
  work: (api: RegistryApi, named: NamedImage) => Promise<number>,
): Promise<number> {
  return forUsers(async () => {
    const image = named()
    const login = await findLogin(image, options, environment)
    const api = new RegistryApi(image.reference, { login, environment })
    try {
      return await work(api, image)
    } finally {
      await api.close()
    }
  })
}

/** A registry by its host alone, or by a URL with a login in it. Throws MalformedReferenceError. */
export function parseNamedRegistry(text: string, options: LoginOptions): NamedImage {
  // Whatever repository: logins are kept by host, and nothing else is asked about it.
  return parseNamedImage(`${text.replace(/\/+$/, '')}/any`, options)
}

/** The tag or digest that a reference must have here. Throws UsageError. */
export function wantedPlace({ reference }: NamedImage): Tag | Digest {
  const place = reference.digest ?? reference.tag
  if (place === undefined) throw new UsageError('the reference must end with :TAG or @DIGEST')
  return place
}

/** The tag that a reference must have here. Throws UsageError. */
export function wantedTag({ reference }: NamedImage): Tag {
  if (reference.tag === undefined) throw new UsageError('the reference must end with :TAG')
  return reference.tag
}

/** How many are to be shown. Throws UsageError. */
export function parseLimit(text: string | undefined): number {
  if (text === undefined) return LISTED_DEFAULT
  const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (limit >= 1 && limit <= LISTED_MAX) return limit
  throw new UsageError(`--limit must be a number from 1 to ${LISTED_MAX}, not "${text}"`)
}

/** The path of a repository's API, with what stands below it. */
export function repositoryPath({ reference }: NamedImage, below: string): string {
  return `/api/v1/repositories/${reference.repository}/${below}`
}

/** A query string of what is there. */
export function queryOf(parameters: Readonly<Record<string, string | undefined>>): string {
  const found = Object.entries(parameters).filter(([, value]) => value !== undefined)
  return found.length === 0 ? '' : `?${new URLSearchParams(found as [string, string][])}`
}

/** A digest that a command was given. Throws RegistryError. */
export function digestOption(text: string | undefined): Digest | undefined {
  return text === undefined ? undefined : parseDigest(text)
}

/** A digest as people tell it from others. */
export function shortDigest(digest: string): string {
  return digest.slice(0, digest.indexOf(':') + 13)
}
