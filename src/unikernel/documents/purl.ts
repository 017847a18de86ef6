import type { Host } from '../host/build-environment.ts'
import type { PackageManager, SystemPackage } from '../host/system-packages.ts'
import type { OpamSource, VendoredSource } from '../opam/definition.ts'
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
  /** Those that are undefined or empty are left out. */
  readonly qualifiers?: Readonly<Record<string, string | undefined>>
}

/** Package URLs (ECMA-427) in canonical form: qualifiers in the order of their names. */
function purlOf({ type, namespace, name, version, qualifiers = {} }: Purl): string {
  const path = [type, ...(namespace === undefined ? [] : [encoded(namespace)]), encoded(name)]
  const pairs = Object.entries(qualifiers)
    .filter((pair): pair is [string, string] => pair[1] !== undefined && pair[1] !== '')
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${encoded(value)}`)
  const at = version === undefined || version === '' ? '' : `@${encoded(version)}`
  return `pkg:${path.join('/')}${at}${pairs.length === 0 ? '' : `?${pairs.join('&')}`}`
}

/** ECMA-427, "Character encoding": letters, digits, `.-_~` and the colon stand for themselves. */
export function encoded(text: string): string {
  return text.replaceAll(/[^A-Za-z0-9.\-_~:]+/g, percentEncoded)
}

/**
 * A package of opam. One that is pinned may be another than the repository's of this version, so it
 * says where its source is.
 */
export function opamPurl({ name, version, pinned, source }: InstalledPackage): string {
  const qualifiers = pinned && source !== undefined ? sourceQualifiers(source) : {}
  return purlOf({ type: 'opam', name, version, qualifiers })
}

/** A package of opam of which only the name is known. */
export function opamNamePurl(name: string): string {
  return purlOf({ type: 'opam', name })
}

/**
 * A vendored source: of GitHub's type when its address says the repository and the tag or commit,
 * else a generic one that says where it is. Its version is as the name of the archive says.
 */
export function vendoredPurl(source: VendoredSource): string {
  const address = parseSourceAddress(source.url)
  const github = findGithub(address)
  if (github !== undefined) {
    const { owner, name, version } = github
    // GitHub's names have no case.
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

// What an environment says may be anything, and readers stumble over a `%` that stands for itself.
const DISTRIBUTION = /^[a-z0-9][a-z0-9._-]*$/
const RELEASE = /^[A-Za-z0-9][A-Za-z0-9._+~-]*$/

/**
 * A package of the host. Of dpkg's and apk's, the distribution is the namespace, `debian` and
 * `alpine` when it is not known. FreeBSD's have no type that tools know (`bsd` is proposed), so they
 * are generic ones of `freebsd`, which every tool can read.
 */
export function hostPurl(
  manager: PackageManager | undefined,
  { name, version, architecture }: SystemPackage,
  host: Host | undefined,
): string {
  const said = host?.distribution?.toLowerCase() ?? ''
  const distribution = DISTRIBUTION.test(said) ? said : undefined
  const release = host?.version ?? ''
  const distro =
    distribution !== undefined && RELEASE.test(release) ? `${distribution}-${release}` : undefined
  const qualifiers = { arch: architecture, distro }
  switch (manager) {
    case 'dpkg':
    case 'apk': {
      const [type, usual] = manager === 'dpkg' ? ['deb', 'debian'] : ['apk', 'alpine']
      // Both types want names in lower case.
      const named = { namespace: distribution ?? usual, name: name.toLowerCase() }
      return purlOf({ type, ...named, version, qualifiers })
    }
    default: {
      const namespace = manager === 'pkg' ? 'freebsd' : undefined
      return purlOf({ type: 'generic', namespace, name, version, qualifiers })
    }
  }
}

/** An image or artifact in a registry: the name is the repository's last part. */
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
