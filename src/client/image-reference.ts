import { type Digest, type DigestPrefix, isDigestPrefix, parseDigest } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'
import { parseRepository, parseTag, type Repository, type Tag } from '../oci/reference.ts'

/** The address of a registry. */
export type RegistryAddress = {
  /** With the port, when it is not the default. */
  readonly host: string
  /** Without TLS. */
  readonly plainHttp: boolean
}

/** An image in a registry, as clients write it: `host:port/repository:tag@digest`. */
export type ImageReference = RegistryAddress & {
  readonly repository: Repository
  readonly tag: Tag | undefined
  /** Takes precedence over the tag. */
  readonly digest: Digest | undefined
  /** A shortened digest, which only a Rookery can find. */
  readonly digestPrefix?: DigestPrefix | undefined
}

/** Malformed image reference. The message is one line with an example. */
export class MalformedReferenceError extends Error {
  override readonly name = 'MalformedReferenceError'
}

const REFERENCE_LENGTH_MAX = 1024
const EXAMPLE = 'registry.example.org/builds/www:v1'
const PARTS = /^(?:(https?):\/\/)?([^/@]+)\/([^:@]+)(?::([^@]*))?(?:@(.*))?$/
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/
// Without one of these, other clients take the first component for a part of the repository.
const LIKE_A_HOST = /[.:]|^localhost$/

/**
 * Parses `[http://|https://]HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`. Without a scheme, registries on this
 * machine are reached without TLS, and all others with TLS. Throws MalformedReferenceError.
 */
export function parseImageReference(text: string): ImageReference {
  const found = text.length > REFERENCE_LENGTH_MAX ? null : PARTS.exec(text)
  if (found === null) throw malformed('it must be like', EXAMPLE)
  const [, scheme, host = '', name = '', tag, digest] = found
  if (!HOST.test(host) || !URL.canParse(`https://${host}`))
    throw malformed('it must begin with a host, as in', EXAMPLE)
  if (scheme === undefined && !LIKE_A_HOST.test(host)) {
    throw malformed('it must begin with a host that has a dot or a port, as in', EXAMPLE)
  }
  return {
    host,
    plainHttp: scheme === undefined ? isLoopback(host) : scheme === 'http',
    repository: checked(() => parseRepository(name)),
    tag: tag === undefined ? undefined : checked(() => parseTag(tag)),
    ...(digest === undefined ? { digest } : checked(() => digestOfText(digest))),
  }
}

function digestOfText(text: string): Pick<ImageReference, 'digest' | 'digestPrefix'> {
  return isDigestPrefix(text)
    ? { digest: undefined, digestPrefix: text }
    : { digest: parseDigest(text) }
}

/** True for names and addresses of this machine, with or without a port. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, '').toLowerCase()
  return name === 'localhost' || name === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(name)
}

/** Formats a reference as clients write it, without a scheme. */
export function formatReference(reference: ImageReference): string {
  const { host, repository, tag } = reference
  const digest = reference.digest ?? reference.digestPrefix
  const suffix = `${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`
  return `${host}/${repository}${suffix}`
}

function checked<T>(parse: () => T): T {
  try {
    return parse()
  } catch (cause) {
    if (!(cause instanceof RegistryError)) throw cause
    throw new MalformedReferenceError(`not an image reference: ${cause.message}`, { cause })
  }
}

function malformed(problem: string, example: string): MalformedReferenceError {
  return new MalformedReferenceError(`not an image reference: ${problem} ${example}`)
}
