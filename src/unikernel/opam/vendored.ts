import { findArchiveName } from './archive.ts'
import type { VendoredSource } from './definition.ts'
import { isOpamName, isOpamVersion, type OpamPackage } from './package.ts'

// These tag releases with a `v` and keep it in opam's versions. Others leave it out of opam's
// versions.
const KEEPS_V = /\/janestreet(?:-v0)?\//

/**
 * Finds the package of a vendored source by its URL: the name and version of its archive, or the
 * name of its folder. The version is undefined for repositories and for archives without one.
 * Undefined for a folder whose name is not a package name.
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
