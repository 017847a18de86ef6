import type { Host } from '../host/build-environment.ts'
import type { PackageManager, SystemPackage } from '../host/system-packages.ts'
import type { VendoredSource } from '../opam/duniverse.ts'
import type { OpamSource } from '../opam/package.ts'
import type { InstalledPackage } from '../opam/switch.ts'
import {
  findArchiveVersion,
  findGithub,
  isLink,
  parseSourceAddress,
  percentEncoded,
  uriOf,
} from './source-address.ts'

type Purl = {
  readonly type: string
  readonly namespace?: string | undefined
  readonly name: string
  readonly version?: string | undefined
  /** Undefined and empty qualifiers are left out. */
  readonly qualifiers?: Readonly<Record<string, string | undefined>>
}

/** Formats a package URL (ECMA-427) in canonical form: qualifiers in the order of their names. */
function purlOf({ type, namespace, name, version, qualifiers = {} }: Purl): string {
  const path = [type, ...(namespace === undefined ? [] : [encoded(namespace)]), encoded(name)]
  const pairs = Object.entries(qualifiers)
    .filter((pair): pair is [string, string] => pair[1] !== undefined && pair[1] !== '')
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${encoded(value)}`)
  const at = version === undefined || version === '' ? '' : `@${encoded(version)}`
  return `pkg:${path.join('/')}${at}${pairs.length === 0 ? '' : `?${pairs.join('&')}`}`
}

/** ECMA-427, "Character encoding": letters, digits, `.-_~` and the colon are not encoded. */
export function encoded(text: string): string {
  return text.replaceAll(/[^A-Za-z0-9.\-_~:]+/g, percentEncoded)
}

/**
 * Returns the purl of an opam package. A pinned package may differ from the repository's package of
 * this version, so its purl has the source.
 */
export function opamPurl({ name, version, pinned, source }: InstalledPackage): string {
  const qualifiers = pinned && source !== undefined ? sourceQualifiers(source) : {}
  return purlOf({ type: 'opam', name, version, qualifiers })
}

/** Returns the purl of an opam package by its name, and its version when it is known. */
export function opamNamePurl(name: string, version?: string): string {
  return purlOf({ type: 'opam', name, version })
}

/**
 * Returns the purl of a vendored source: of GitHub's type when its URL has the repository and the
 * tag or commit, else a generic one with the URL. The version is that of the archive's name.
 */
export function vendoredPurl(source: VendoredSource): string {
  const address = parseSourceAddress(source.url)
  const github = findGithub(address)
  if (github !== undefined) {
    const { owner, name, version } = github
    // GitHub's names are case-insensitive.
    const named = { namespace: owner.toLowerCase(), name: name.toLowerCase() }
    return purlOf({ type: 'github', ...named, version })
  }
  return purlOf({
    type: 'generic',
    name: source.directory,
    version: findArchiveVersion(address),
    qualifiers: sourceQualifiers(source),
  })
}

function sourceQualifiers({ url, checksums }: OpamSource): Readonly<Record<string, string>> {
  const address = parseSourceAddress(url)
  const checksum = checksums.map((one) => one.replace('=', ':')).join(',')
  if (!isLink(address)) return { checksum }
  if (address.vcs === undefined) return { download_url: address.address, checksum }
  const at = address.reference === undefined ? '' : `@${uriOf(address.reference)}`
  return { vcs_url: `${address.vcs}+${address.address}${at}`, checksum }
}

// An environment may have any value, and readers fail on an unencoded `%`.
const DISTRIBUTION = /^[a-z0-9][a-z0-9._-]*$/
const RELEASE = /^[A-Za-z0-9][A-Za-z0-9._+~-]*$/

/**
 * Returns the purl of a package of the host. For dpkg and apk, the distribution is the namespace:
 * `debian` and `alpine` when it is unknown. FreeBSD's packages have no type that tools read (`bsd`
 * is proposed), so they have the generic type with the namespace `freebsd`, which every tool reads.
 */
export function hostPurl(
  manager: PackageManager | undefined,
  { name, version, architecture }: SystemPackage,
  host: Host | undefined,
): string {
  const system = host?.distribution?.toLowerCase() ?? ''
  const distribution = DISTRIBUTION.test(system) ? system : undefined
  const release = host?.version ?? ''
  const distro =
    distribution !== undefined && RELEASE.test(release) ? `${distribution}-${release}` : undefined
  const qualifiers = { arch: architecture, distro }
  switch (manager) {
    case 'dpkg':
    case 'apk': {
      const [type, usual] = manager === 'dpkg' ? ['deb', 'debian'] : ['apk', 'alpine']
      // Both types require names in lower case.
      const named = { namespace: distribution ?? usual, name: name.toLowerCase() }
      return purlOf({ type, ...named, version, qualifiers })
    }
    default: {
      const namespace = manager === 'pkg' ? 'freebsd' : undefined
      return purlOf({ type: 'generic', namespace, name, version, qualifiers })
    }
  }
}

/**
 * Returns the purl of an image or artifact in a registry: the name is the repository's last
 * component.
 */
export function ociPurl(
  { registry, repository, digest }: { registry: string; repository: string; digest: string },
  tag?: string,
): string {
  return purlOf({
    type: 'oci',
    name: repository.slice(repository.lastIndexOf('/') + 1).toLowerCase(),
    version: digest,
    qualifiers: { repository_url: `${registry}/${repository}`, tag },
  })
}
