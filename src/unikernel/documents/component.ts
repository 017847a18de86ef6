import type { ExtraSource } from '../opam/definition.ts'
import type { OpamSource } from '../opam/package.ts'
import type { Basis } from '../package-lists.ts'

/** A component that an image was built from or with. */
export type Component = {
  /** Unique among the components of the image. */
  readonly ref: string
  /**
   * A package of opam without a known place, a package in a vendored source, a vendored source that holds no known package, or
   * a package of the host.
   */
  readonly kind: 'opam' | 'vendored' | 'source' | 'host'
  readonly name: string
  readonly version: string | undefined
  /** How the package is known. Undefined for a source. */
  readonly basis: Basis | undefined
  /** The folder of the vendored source; several packages may be in one. */
  readonly directory: string | undefined
  readonly purl: string
  readonly source: OpamSource | undefined
  /** Patches and other files that are added to its source tree. */
  readonly extraSources: readonly ExtraSource[]
}
