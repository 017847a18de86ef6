import { findArchiveName } from './archive.ts'
import type { VendoredSource } from './definition.ts'
import { isOpamName, isOpamVersion, type OpamPackage } from './package.ts'

// Of all who tag releases with a `v`, these alone have it in opam's versions as well.
const KEEPS_V = /\/janestreet(?:-v0)?\//

/**
 * The package that a vendored source is, as far as its URL tells: the name and version of its archive,
 * or the name of its folder. The version is undefined for repositories and for archives without one;
 * nothing is known of a folder that is named like no package.
 */
export function findVendoredPackage({
  url,
  directory,
}: VendoredSource):
  | (Pick<OpamPackage, 'name'> & { readonly version: string | undefined })
  | undefined {
  const { name, version } = archiveOf(url)
  const found = [name, directory].find((one) => one !== undefined && isOpamName(one))
  return found === undefined ? undefined : { name: found, version }
}

function archiveOf(url: string): { name: string | undefined; version: string | undefined } {
  const path = url.split(/[?#]/, 1)[0] ?? ''
  const archive = findArchiveName(path.slice(path.lastIndexOf('/') + 1))
  if (archive === undefined) return { name: undefined, version: undefined }
  const { name, version } = archive
  const plain = KEEPS_V.test(path) ? version : version.replace(/^v/, '')
  return { name, version: isOpamVersion(plain) ? plain : undefined }
}
