import { createHash } from 'node:crypto'
import type { OpamSource } from './package.ts'

// Longer addresses of repositories are left out: an index has no room for them.
const REPOSITORY_CHARACTERS_MAX = 255
/** Hosts that serve files and archives of the repositories of github.com. */
const FILES_OF_GITHUB = /^(?:raw\.githubusercontent|codeload\.github)\.com$/i
const COMMIT = /^[0-9a-f]{40}$|^[0-9a-f]{64}$/

/**
 * Lists what identifies the bytes of a source: its checksums, the commit that its URL names (`git=0f1e…`), and the SHA-256
 * of its URL (`url=…`). Sources with a common key hold the same packages.
 */
export function sourceKeys({ url, checksums }: OpamSource): string[] {
  const commit = findCommit(url)
  const commits = commit === undefined ? [] : [`git=${commit}`]
  return [...checksums, ...commits, `url=${sha256(url)}`]
}

/** Returns the SHA-256 of a source's URL and checksums, in hexadecimal. */
export function sourceDigest({ url, checksums }: OpamSource): string {
  return sha256([url, ...checksums].join('\n'))
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** Finds the commit that a URL names by all of its digits, as `#0f1e…` or as an archive of a commit. */
function findCommit(url: string): string | undefined {
  const hash = url.indexOf('#')
  if (hash !== -1) {
    const reference = url.slice(hash + 1)
    return COMMIT.test(reference) ? reference : undefined
  }
  const [, commit = ''] = /\/archive\/([0-9a-f]+)\.(?:tar\.gz|tgz|zip)$/.exec(url) ?? []
  return COMMIT.test(commit) ? commit : undefined
}

/**
 * Finds the address of the source repository that a URL names, without scheme, user and `.git`, in lower case:
 * `github.com/mirage/mirage`. Undefined for an archive whose URL does not name one.
 */
export function findRepository(url: string): string | undefined {
  const [, vcs, rest = ''] = /^(?:(git|hg|darcs)\+)?(.*)$/s.exec(url) ?? []
  const address = rest.split(/[?#]/, 1)[0] ?? ''
  const [, scheme, host, path = ''] =
    /^(https?|git|ssh):\/\/(?:[^@/]*@)?([^/]+)\/(.*)$/i.exec(address) ?? scpAddress(address) ?? []
  if (scheme === undefined || host === undefined) return undefined
  const isRepository = vcs !== undefined || /^git$/i.test(scheme) || /\.git\/?$/.test(path)
  if (!isRepository && FILES_OF_GITHUB.test(host)) {
    const name = /^[^/]+\/[^/]+(?=\/)/.exec(path)?.[0]
    return name === undefined ? undefined : findRepository(`git+https://github.com/${name}`)
  }
  const found = isRepository
    ? path
    : /^([^/]+\/[^/]+|.+?(?=\/-\/))\/(?:-\/)?(?:archive|releases|tarball|zipball|raw)\//.exec(
        path,
      )?.[1]
  const name = found?.replace(/\/+$/, '').replace(/\.git$/, '')
  if (name === undefined || name === '') return undefined
  const repository = `${host}/${name}`.replace(/^www\./i, '').toLowerCase()
  return repository.length > REPOSITORY_CHARACTERS_MAX ? undefined : repository
}

/** `git@github.com:mirage/mirage.git` */
function scpAddress(address: string): readonly string[] | undefined {
  const [, host, path] = /^[^@/:]+@([^/:]+):([^/].*)$/.exec(address) ?? []
  return host === undefined || path === undefined ? undefined : ['', 'ssh', host, path]
}
