import type { LayerFiles } from './layer-files.ts'
import { followLinks } from './symbolic-links.ts'

/** Symbolic links of one image that are followed. */
const FOLLOWED_MAX = 100
/** Layers that are asked for a path, for all links of one image: an image has up to 2000 layers. */
const LOOKUPS_MAX = 200_000

/** The symbolic links of a container image, as its layers leave them. */
export class LayerLinks {
  /** The topmost first, down to the lowest with a link. */
  readonly #layers: readonly LayerIndex[]
  #lookupsLeft = LOOKUPS_MAX

  /** The topmost layer is the first. */
  constructor(layers: readonly { readonly files: LayerFiles }[]) {
    const last = layers.findLastIndex(({ files }) => files.paths.symlinks.length > 0)
    this.#layers = layers.slice(0, last + 1).map(({ files }) => new LayerIndex(files))
  }

  /** Lists the visible links whose path is wanted, at most FOLLOWED_MAX. */
  paths(isWanted: (path: string) => boolean): string[] {
    const wanted = new Set(this.#layers.flatMap(({ links }) => [...links.keys()].filter(isWanted)))
    return [...wanted]
      .sort()
      .slice(0, FOLLOWED_MAX)
      .filter((path) => this.has(path))
  }

  /** True when there is a link at the path, or on the way to it. */
  has(path: string): boolean {
    return [path, ...ancestorsOf(path)].some((one) => this.#linkAt(one) !== undefined)
  }

  /** Returns the path to which a path leads. Undefined for a loop. */
  follow(path: string): string | undefined {
    return followLinks(path, (one) => this.#linkAt(one))
  }

  #linkAt(path: string): string | undefined {
    for (const layer of this.#layers) {
      if (this.#lookupsLeft === 0) return undefined
      this.#lookupsLeft -= 1
      const target = layer.links.get(path)
      if (target !== undefined) return target
      if (layer.hides(path)) return undefined
    }
    return undefined
  }
}

/** The entries of one layer, for the question whether it hides a path of the layers below. */
class LayerIndex {
  readonly links: ReadonlyMap<string, string>
  readonly #directories: ReadonlySet<string>
  readonly #opaque: ReadonlySet<string>
  readonly #gone: ReadonlySet<string>

  constructor({ kernels, paths }: LayerFiles) {
    this.links = new Map(paths.symlinks)
    this.#directories = new Set(paths.directories)
    this.#opaque = new Set(paths.opaque)
    this.#gone = new Set([
      ...paths.files,
      ...paths.removed,
      ...paths.links.map(([path]) => path),
      ...kernels.map((kernel) => kernel.path),
    ])
  }

  hides(path: string): boolean {
    if (this.#directories.has(path) || this.#gone.has(path)) return true
    const ancestors = ancestorsOf(path)
    return (
      ancestors.some((one) => this.#gone.has(one) || this.links.has(one)) ||
      ['', ...ancestors].some((one) => this.#opaque.has(one))
    )
  }
}

/** Returns the folders above a path, without the root. */
export function ancestorsOf(path: string): string[] {
  const parts = path.split('/')
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'))
}
