import { Buffer } from 'node:buffer'
import { cutArchiveEnding, findArchiveName } from '../opam/archive.ts'

/** The parts of an opam URL: opam manual, "URLs". */
export type SourceAddress = {
  readonly vcs: 'git' | 'hg' | 'darcs' | undefined
  /** A URI or a file path, without version control system and reference. */
  readonly address: string
  /** A commit, tag or branch after `#`. Only with a version control system. */
  readonly reference: string | undefined
}

/** Parses a URL such as `git+https://example.org/x.git#0f1e…` or `https://example.org/x.tbz`. */
export function parseSourceAddress(url: string): SourceAddress {
  const [, prefix, rest = url] = /^(git|hg|darcs)\+(.*)$/s.exec(url) ?? []
  const hash = rest.indexOf('#')
  const address = hash === -1 ? rest : rest.slice(0, hash)
  // The same guess as opam's.
  const isGit = prefix === 'git' || /^git:/.test(address) || address.endsWith('.git')
  const vcs = isGit ? 'git' : prefix === 'hg' || prefix === 'darcs' ? prefix : undefined
  if (vcs === undefined) return { vcs, address: uriOf(rest), reference: undefined }
  const reference = hash === -1 ? undefined : rest.slice(hash + 1)
  return { vcs, address: uriOf(address), reference: reference === '' ? undefined : reference }
}

/**
 * Formats a download location of SPDX 2.3 (7.7), `git+https://example.org/x.git@0f1e…`; undefined
 * for a source that is not on a network.
 */
export function findLocation({ vcs, address, reference }: SourceAddress): string | undefined {
  if (vcs === undefined) return /^(?:https?|ftp):\/\/[^/]/.test(address) ? address : undefined
  if (vcs === 'darcs' || !/^(?:https?|ssh|git):\/\/[^/]/.test(address)) return undefined
  const at = reference === undefined ? '' : `@${uriOf(reference)}`
  return `${vcs}+${address.replace(/#.*$/s, '')}${at}`
}

/** True when the URL has a scheme of sources: a document links to no others. */
export function isLink({ address }: SourceAddress): boolean {
  return /^(?:https?|ftp|ssh|git|rsync|file):\/\/./.test(address)
}

/** Finds the git commit that a URL names by all of its digits, of SHA-1 or of SHA-256. */
export function findCommit({ vcs, reference = '' }: SourceAddress): string | undefined {
  return vcs === 'git' && /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(reference) ? reference : undefined
}

/** A source on GitHub. */
export type GithubSource = {
  readonly owner: string
  readonly name: string
  /** A tag or commit. */
  readonly version: string | undefined
}

const WORD = /^[A-Za-z0-9._-]+$/

/** Finds the GitHub repository whose commit, tag archive or release a URL names. */
export function findGithub({ vcs, address, reference }: SourceAddress): GithubSource | undefined {
  const [scheme = '', , host = '', owner = '', repository = '', ...path] = address.split('/')
  const name = repository.replace(/\.git$/, '')
  if (!/^(?:https?|ssh|git):$/.test(scheme) || !/^(?:[^@]*@)?(?:www\.)?github\.com$/.test(host)) {
    return undefined
  }
  if (!WORD.test(owner) || !WORD.test(name) || /^\.+$/.test(name)) return undefined
  if (vcs === 'git') return { owner, name, version: reference }
  const version = findTag(path)
  return version === undefined || vcs !== undefined ? undefined : { owner, name, version }
}

function findTag(path: readonly string[]): string | undefined {
  const [kind, second, ...rest] = path
  if (kind === 'releases' && second === 'download' && rest.length === 2) return tagOf(rest[0])
  if (kind !== 'archive' || second === undefined) return undefined
  // A name below refs/heads is a branch, which moves.
  if (second === 'refs')
    return rest[0] === 'tags' ? tagOf(cutArchiveEnding(rest.slice(1).join('/'))) : undefined
  return rest.length === 0 ? tagOf(cutArchiveEnding(second)) : undefined
}

const tagOf = (text = '') => (/^[A-Za-z0-9._+~/-]+$/.test(text) ? text : undefined)

/** Finds the version in the name of an archive, `2.1.1` of `…/cmdliner-2.1.1.tbz`, for its name. */
export function findArchiveVersion({ vcs, address }: SourceAddress): string | undefined {
  if (vcs !== undefined) return undefined
  const archive = findArchiveName(address.slice(address.lastIndexOf('/') + 1))
  return archive?.name === undefined ? undefined : archive.version.replace(/^v/, '')
}

/** Percent-encodes the characters that RFC 3986 does not allow, so that the text is a URI. */
export function uriOf(text: string): string {
  const hash = text.indexOf('#')
  const [before, after] = hash === -1 ? [text, ''] : [text.slice(0, hash), text.slice(hash + 1)]
  const host = /^[a-z][a-z0-9+.-]*:\/\/(?:[^/?[\]]*@)?\[[0-9a-f:.]*\]/i.exec(before)?.[0] ?? ''
  return host + escaped(before.slice(host.length)) + (after === '' ? '' : `#${escaped(after)}`)
}

function escaped(text: string): string {
  return text.replaceAll(/%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~:/?@!$&'()*+,;=%]+/g, (found) =>
    percentEncoded(found),
  )
}

/** Percent-encodes every byte of the text's UTF-8. A lone surrogate becomes U+FFFD. */
export function percentEncoded(text: string): string {
  return Buffer.from(text).toString('hex').toUpperCase().replaceAll(/../g, '%$&')
}
