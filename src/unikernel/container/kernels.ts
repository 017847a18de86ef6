import type { Digest } from '../../oci/digest.ts'
import {
  type IncompleteList,
  isNamedKernel,
  type KernelFile,
  type LayerFiles,
  LISTED_MAX,
  PATHS_MAX,
  rankOf,
  SYMLINKS_MAX,
  WHITEOUTS_MAX,
} from './layer-files.ts'
import { ancestorsOf, LayerLinks } from './layer-links.ts'

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

/** The kernels of a container image. */
export type ChosenKernels = {
  readonly kernels: readonly ContainerKernel[]
  /** True when layers below cannot have a better one. */
  readonly isNamed: boolean
  /** Why they may be the wrong ones, or one is missing. */
  readonly problems: readonly string[]
}

/**
 * Chooses the kernels of a container image from its layers, the topmost first: the paths that it names, else
 * `/unikernel.*`, else files of the root with the extension of a target, else any others. A file of a layer is hidden by
 * a replacement or whiteout in a layer above (image spec, "Image Layer Filesystem Changeset"). A symbolic link with such a
 * name is the kernel to which it leads.
 */
export function chooseKernels(
  layers: readonly ReadLayer[],
  binaries: readonly string[],
): ChosenKernels {
  const files = listVisible(layers)
  const byPath = new Map(files.map((kernel) => [kernel.path, kernel]))
  const links = new LayerLinks(layers)
  const linked = [...new Set([...binaries, ...links.paths(isNamedKernel)])]
    .filter((path) => !byPath.has(path))
    .map((path) => ({ path, kernel: byPath.get(links.follow(path) ?? '') }))
  const visible = [
    ...files,
    ...linked.flatMap(({ path, kernel }) => (kernel === undefined ? [] : [{ ...kernel, path }])),
  ]
  const lost = linked.filter(({ path, kernel }) => kernel === undefined && links.has(path))
  const chosen = chooseByName(visible, binaries)
  return {
    kernels: distinct(chosen.kernels),
    // The target of a link may be in a layer below.
    isNamed: chosen.isNamed && lost.length === 0,
    problems: [
      ...lost.map(({ path }) => `/${path} is a symbolic link that leads to no kernel`),
      ...listLimits(layers, chosen.kernels, lost.length > 0),
    ],
  }
}

function chooseByName(visible: readonly ContainerKernel[], binaries: readonly string[]) {
  const named = visible.filter(({ path }) => binaries.includes(path))
  if (named.length > 0) return { kernels: named, isNamed: true }
  for (const rank of [0, 1, 2]) {
    const kernels = visible.filter(({ path }) => rankOf(path) === rank)
    if (kernels.length > 0) return { kernels, isNamed: rank < 2 }
  }
  return { kernels: [], isNamed: false }
}

/** Says which limits of a layer may have changed the choice. */
function listLimits(
  layers: readonly ReadLayer[],
  kernels: readonly ContainerKernel[],
  hasLostLink: boolean,
): string[] {
  const lowest = Math.max(
    -1,
    ...kernels.map(({ layer }) => layers.findIndex((one) => one.digest === layer)),
  )
  // Files with the name of a kernel at the root are in each list.
  const isAnywhere = kernels.some(({ path }) => !isNamedKernel(path))
  return layers.flatMap(({ digest, files }, index) =>
    files.paths.incomplete
      .filter((list) => {
        if (list === 'symlinks') return hasLostLink
        if (list === 'kernels') return true
        return index < lowest && (list !== 'files' || isAnywhere)
      })
      .map((list) => `the layer ${digest} has ${LIMITS[list]}`),
  )
}

const LIMITS: Readonly<Record<IncompleteList, string>> = {
  files: `more than ${PATHS_MAX} files: whether they replace a kernel of a lower layer is not known`,
  kernels: `more than ${LISTED_MAX} kernels: others are not listed`,
  removed: `more than ${WHITEOUTS_MAX} whiteouts: others remove no kernel of a lower layer`,
  links: `more than ${LISTED_MAX} hard links to files of lower layers: others are not followed`,
  symlinks: `more than ${SYMLINKS_MAX} symbolic links: others are not followed`,
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
    ...paths.symlinks.map(([path]) => path),
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

/** Leaves out other paths of the same bytes, and all after the first CONTAINER_KERNELS_MAX in the order of paths. */
function distinct(kernels: readonly ContainerKernel[]): ContainerKernel[] {
  const byBytes = new Map<string, ContainerKernel>()
  for (const kernel of kernels.toSorted((a, b) => (a.path < b.path ? -1 : 1))) {
    const key = `${kernel.layer} ${kernel.offset}`
    if (!byBytes.has(key)) byBytes.set(key, kernel)
  }
  return [...byBytes.values()].slice(0, CONTAINER_KERNELS_MAX)
}
