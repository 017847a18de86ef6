import { describeHost } from '../host/build-environment.ts'
import type { UnikernelImage } from '../image.ts'
import { type ImagePackage, type ImagePackageSource, listKnownPackages } from '../image-packages.ts'
import { findOpamChecksum, type OpamSource } from '../opam/package.ts'
import type { OpamSwitch } from '../opam/switch.ts'
import type { Component } from './component.ts'
import { DependencyGraph } from './dependency-graph.ts'
import { hostPurl, opamNamePurl, opamPurl } from './purl.ts'

// A full desktop has some 5000 packages. Lists of a hostile image may have many more, and each
// entry becomes half a kilobyte of a document.
export const COMPONENTS_MAX = 10_000
export const DEPENDENCIES_MAX = 50_000

/** The components of an image and their dependencies. */
export type Components = {
  readonly list: readonly Component[]
  /** Refs of the requested packages, such as the unikernel itself. */
  readonly roots: readonly string[]
  /**
   * Dependencies by ref, as far as the switch has them. Each ref is listed once, none depends on
   * itself, and a list may be empty.
   */
  readonly dependencies: ReadonlyMap<string, readonly string[]>
  /** The number of components and dependencies beyond the limits. */
  readonly omitted: number
}

/**
 * Lists the components of an image, up to COMPONENTS_MAX: each package once, with its source, and no source of a package
 * beside it. Linear, except for sorting.
 */
export function componentsOf(
  image: UnikernelImage,
  packages: readonly ImagePackage[] = listKnownPackages(image),
): Components {
  const inside = opamComponents(
    packages.filter(({ ecosystem }) => ecosystem === 'opam'),
    image.opamSwitch,
  )
  const graph = new DependencyGraph(image, inside)
  const ofKind = (kind: Component['kind']) => inside.filter((one) => one.kind === kind)
  return limited(
    [ofKind('opam'), graph.unversioned, ofKind('vendored'), graph.sources, hostPackages(image)],
    graph.roots,
    graph.edges,
  )
}

/** Cuts the lists to the limits, with all dependencies on components that are cut. */
function limited(
  lists: readonly (readonly Component[])[],
  roots: readonly string[],
  edges: ReadonlyMap<string, readonly string[]>,
): Components {
  const all = lists.flat()
  const list = all.slice(0, COMPONENTS_MAX)
  const refs = new Set(list.map(({ ref }) => ref))
  const dependencies = new Map<string, readonly string[]>()
  let left = DEPENDENCIES_MAX
  let omitted = all.length - list.length
  for (const [ref, targets] of edges) {
    const kept = refs.has(ref) ? targets.filter((to) => refs.has(to)).slice(0, left) : []
    if (refs.has(ref)) dependencies.set(ref, kept)
    left -= kept.length
    omitted += targets.length - kept.length
  }
  return { list, roots: roots.filter((ref) => refs.has(ref)), dependencies, omitted }
}

function opamComponents(
  packages: readonly ImagePackage[],
  opamSwitch: OpamSwitch | undefined,
): Component[] {
  const installed = new Map(opamSwitch?.installed.map((one) => [`${one.name} ${one.version}`, one]))
  const refs = new Set<string>()
  return packages.map(({ name, version, basis, source }) => {
    const kind = source === null ? 'opam' : 'vendored'
    const ref = refs.has(`${kind}/${name}`) ? `${kind}/${name}@${version}` : `${kind}/${name}`
    refs.add(ref)
    const own = basis === 'installed' ? installed.get(`${name} ${version}`) : undefined
    return {
      ...{ ref, kind, name, basis },
      version: version ?? undefined,
      directory: source?.directory,
      purl: own === undefined ? opamNamePurl(name, version ?? undefined) : opamPurl(own),
      source: source === null ? own?.source : sourceOf(source),
      extraSources: own?.extraSources ?? [],
    }
  })
}

function sourceOf({ url, checksums }: ImagePackageSource): OpamSource {
  return { url, checksums: checksums.flatMap((text) => findOpamChecksum(text) ?? []) }
}

function hostPackages({ systemPackages, buildEnvironment }: UnikernelImage): Component[] {
  if (systemPackages === undefined) return []
  const host = buildEnvironment && describeHost(buildEnvironment)
  return systemPackages.packages.map((one) => ({
    ref: ['host', one.name, one.version, one.architecture ?? ''].join('/'),
    kind: 'host',
    name: one.name,
    version: one.version,
    basis: 'installed',
    directory: undefined,
    purl: hostPurl(systemPackages.manager, one, host),
    source: undefined,
    extraSources: [],
  }))
}
