import { findSource } from './definition.ts'
import { listSections, OpamProblems } from './fields.ts'
import { findOpamPackage, type OpamPackage } from './package.ts'
import { parseOpam } from './parser.ts'
import { sourceKeys } from './source-keys.ts'

const PACKAGE_FILE = /(?:^|\/)packages\/(?:[^/]+\/)?([^/]+)\/opam$/

/** Finds the package whose file this is in an opam repository: `packages/dune/dune.3.24.2/opam`. */
export function findPackageOfFile(path: string): OpamPackage | undefined {
  const [, folder] = PACKAGE_FILE.exec(path) ?? []
  return folder === undefined ? undefined : findOpamPackage(folder)
}

/**
 * Lists what identifies the source of a package, by its `opam` file: checksums, commit and URL. Empty for a package without
 * a source. Throws MalformedOpamError.
 */
export function listSourceKeys(file: Uint8Array): string[] {
  const [section] = listSections(parseOpam(file), 'url')
  const source = section && findSource(section, new OpamProblems())
  return source === undefined ? [] : sourceKeys(source)
}
