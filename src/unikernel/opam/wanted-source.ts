import { URL_CHARACTERS_MAX } from './fields.ts'
import { findOpamChecksum, type OpamChecksum } from './package.ts'
import { findRepository } from './source-keys.ts'

/** A source repository that somebody searches for. */
export type WantedRepository = {
  /** As `findRepository` returns it. */
  readonly repository: string
  /** A tag, a branch or a commit. Undefined matches all. */
  readonly reference: string | undefined
}

const ARCHIVE = /\.(?:tbz|tgz|txz|zip|tar(?:\.\w+)?)$/i
/** The end of the address of a page about a repository, after its name. */
const PAGE =
  /\/(?:-\/|_git\/|src\/)?(?:tree|blob|commits?|issues|pulls?|merge_requests|tags|wiki|branch|releases)(?:\/.*)?$/
const BARE_CHECKSUMS = new Map([
  [32, 'md5'],
  [64, 'sha256'],
  [128, 'sha512'],
])
/** Ends of a reference in the address of an archive. */
const ENDS = ['/', '.tar.', '.tbz', '.tgz', '.txz', '.zip']

/**
 * Reads the address of a source repository in any usual spelling: that of a clone, of a page, of an archive of it, or without
 * a scheme. Undefined for a text that names none.
 */
export function findWantedRepository(text: string): WantedRepository | undefined {
  if (text.length > URL_CHARACTERS_MAX || /[\s\p{Cc}]/u.test(text)) return undefined
  const [address = '', reference] = text.split('#', 2)
  const repository = findRepository(address) ?? findRepositoryOfPage(address)
  return repository === undefined ? undefined : { repository, reference: reference || undefined }
}

function findRepositoryOfPage(address: string): string | undefined {
  if (/^(?:ssh:\/\/|[^@/:]+@[^/:]+:[^/])/i.test(address)) return findRepository(`git+${address}`)
  const [path = ''] = address.split('?', 1)
  const whole = /^[a-z]+:\/\//i.test(path) ? path : `https://${path}`
  const [scheme = '', , host = ''] = whole.split('/', 3)
  // A host has a dot, so that `mirage/mirage` is not the repository `mirage` of the host `mirage`.
  if (!/^https?:$/i.test(scheme) || !/[.:]/.test(host) || ARCHIVE.test(whole)) return undefined
  return findRepository(`git+${whole.replace(PAGE, '')}`)
}

/** True when the URL of a source is of this tag, branch or commit; a commit may be shortened. */
export function hasReference(url: string, reference: string): boolean {
  const hash = url.indexOf('#')
  if (hash !== -1) {
    const name = url.slice(hash + 1)
    return name === reference || (isCommit(reference) && name.startsWith(reference))
  }
  if (isCommit(reference)) return url.includes(`/${reference}`)
  if (url.includes(`/releases/download/${reference}/`)) return true
  return ['', 'refs/tags/', 'refs/heads/'].some((kind) =>
    ENDS.some((end) => url.includes(`/archive/${kind}${reference}${end}`)),
  )
}

/** True for a commit that is shortened to 7 digits or more. */
function isCommit(reference: string): boolean {
  return /^[0-9a-f]{7,64}$/.test(reference)
}

/** Reads a checksum as `sha256=…`, `sha256:…` or digits alone. Undefined when malformed. */
export function findWantedChecksum(text: string): OpamChecksum | undefined {
  const given = text.trim().replace(':', '=')
  const kind = BARE_CHECKSUMS.get(given.length)
  const isBare = /^[0-9a-f]+$/i.test(given)
  return findOpamChecksum(isBare ? `${kind ?? 'unknown'}=${given}` : given)
}
