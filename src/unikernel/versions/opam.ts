import { compareParts } from './parts.ts'

/**
 * Orders versions of opam: negative when `a` is before `b`, 0 when opam has them as equal (`1.0`,
 * `1.00` and `1.0-0`), else positive. Opam manual, "Version Ordering", which follows "Version" of
 * Debian's policy: the text after the last `-` decides only between equals. Accepts any text, in
 * time linear in its length.
 */
export function compareOpamVersions(a: string, b: string): number {
  if (a === b) return 0
  const [upstreamA, revisionA] = splitRevision(a)
  const [upstreamB, revisionB] = splitRevision(b)
  return compareParts(upstreamA, upstreamB) || compareParts(revisionA, revisionB)
}

function splitRevision(version: string): [upstream: string, revision: string] {
  const dash = version.lastIndexOf('-')
  return dash === -1 ? [version, ''] : [version.slice(0, dash), version.slice(dash + 1)]
}
