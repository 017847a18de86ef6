import { compareNumbers } from './numbers.ts'
import { compareOpamVersions } from './opam.ts'

// `epoch:upstream-revision`
const EPOCH = /^([0-9]+):/

/**
 * Orders versions of Debian: negative when `a` is before `b`, 0 when dpkg has them as equal (`1.0`
 * and `0:1.00-0`), else positive. Debian policy, 5.6.12, and deb-version(7). The rest after the
 * epoch is ordered as in opam, whose order comes from here. Accepts any text, in linear time: text
 * with other characters than digits before a `:` is not an epoch.
 */
export function compareDebianVersions(a: string, b: string): number {
  const [epochA, restA] = splitEpoch(a)
  const [epochB, restB] = splitEpoch(b)
  return compareNumbers(epochA, epochB) || compareOpamVersions(restA, restB)
}

function splitEpoch(version: string): [epoch: string, rest: string] {
  const [head, epoch] = EPOCH.exec(version) ?? []
  return head === undefined || epoch === undefined
    ? ['', version]
    : [epoch, version.slice(head.length)]
}
