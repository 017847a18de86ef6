import type { Digest } from '../../oci/digest.ts'
import { type KernelFile, type LayerFiles, rankOf } from './layer-files.ts'

/** A layer that was read. */
export type ReadLayer = { readonly digest: Digest; readonly files: LayerFiles }

/** A kernel in the file system of a container image. */
export type ContainerKernel = KernelFile & {
  /** The layer that has the bytes. */
  readonly layer: Digest
}

/** The kernels of one container image. */
export const CONTAINER_KERNELS_MAX = 8
/** The kernels of all layers that are compared. */
const VISIBLE_MAX = 1_000

/**
 * Chooses the kernels of a container image from its layers, the topmost first: the paths that it names, else
 * `/unikernel.*`, else files of the root with the extension of a target, else any others. A file of a layer is hidden by
 * a replacement or whiteout in a layer above (image spec, "Image Layer Filesystem Changeset").
 */
export function chooseKernels(
  layers: readonly ReadLayer[],
  binaries: readonly string[],
): { readonly kernels: readonly ContainerKernel[]; readonly isNamed: boolean } {
  const visible = listVisible(layers)
  const named = visible.filter(({ path }) => binaries.includes(path))
  if (named.length > 0) return { kernels: distinct(named), isNamed: true }
  for (const rank of [0, 1, 2]) {
    const kernels = visible.filter(({ path }) => rankOf(path) === rank)
    if (kernels.length > 0) return { kernels: distinct(kernels), isNamed: rank < 2 }
  }
  return { kernels: [], isNamed: false }
}

/** Applies the layers one after the other from the lowest, as a runtime does. */
function listVisible(layers: readonly ReadLayer[]): ContainerKernel[] {
  const visible = new Map<string, ContainerKernel>()
  for (const { digest, files } of layers.toReversed()) {
    const linked = linkedFrom(files, visible)
    for (const path of pathsHidden(files, visible)) visible.delete(path)
    const added = [...files.kernels.map((kernel) => ({ ...kernel, layer: digest })), ...linked]
    for (const kernel of added) if (visible.size < VISIBLE_MAX) visible.set(kernel.path, kernel)
  }
  return [...visible.values()]
}

/** Lists the hard links of a layer to kernels of the layers below. */
function linkedFrom(
  { paths }: LayerFiles,
  below: ReadonlyMap<string, ContainerKernel>,
): ContainerKernel[] {
  return paths.links.flatMap(([path, target]) => {
    const kernel = below.get(target)
    return kernel === undefined || paths.files.includes(target) ? [] : [{ ...kernel, path }]
  })
}

/** Lists the paths that a layer replaces or removes. */
function pathsHidden(
  { kernels, paths }: LayerFiles,
  below: ReadonlyMap<string, ContainerKernel>,
): string[] {
  if (below.size === 0) return []
  const directories = new Set(paths.directories)
  const opaque = new Set(paths.opaque)
  const gone = new Set([
    ...paths.files,
    ...paths.removed,
    ...paths.links.map(([path]) => path),
    ...kernels.map(({ path }) => path),
  ])
  return [...below.keys()].filter((path) => {
    const ancestors = ancestorsOf(path)
    return (
      directories.has(path) ||
      [path, ...ancestors].some((one) => gone.has(one)) ||
      ['', ...ancestors].some((one) => opaque.has(one))
    )
  })
}

function ancestorsOf(path: string): string[] {
  const parts = path.split('/')
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'))
}

/** Leaves out other paths of the same bytes, and all after the first CONTAINER_KERNELS_MAX in the order of paths. */
function distinct(kernels: readonly ContainerKernel[]): ContainerKernel[] {
  const byBytes = new Map<string, ContainerKernel>()
  for (const kernel of kernels.toSorted((a, b) => (a.path < b.path ? -1 : 1))) {
    const key = `${kernel.layer} ${kernel.offset}`
    if (!byBytes.has(key)) byBytes.set(key, kernel)
  }
  return [...byBytes.values()].slice(0, CONTAINER_KERNELS_MAX)
}
