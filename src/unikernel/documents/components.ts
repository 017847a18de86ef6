import { describeHost } from '../host/build-environment.ts'
import type { UnikernelImage } from '../image.ts'
import type { ExtraSource } from '../opam/definition.ts'
import type { OpamSource } from '../opam/package.ts'
import type { OpamSwitch } from '../opam/switch.ts'
import { hostPurl, opamNamePurl, opamPurl, vendoredPurl } from './purl.ts'
import { findArchiveVersion, findGithub, parseSourceAddress } from './source-address.ts'

// A full desktop has some 5000 packages. Lists of a hostile image may have many more, and each
// entry becomes half a kilobyte of a document.
export const COMPONENTS_MAX = 10_000
export const DEPENDENCIES_MAX = 50_000

/** A component that an image was built from or with. */
export type Component = {
  /** Unique among the components of the image. */
  readonly ref: string
  /**
   * A package of the switch, a source that was built with the unikernel, or a package of the host.
   */
  readonly kind: 'opam' | 'vendored' | 'host'
  readonly name: string
  readonly version: string | undefined
  readonly purl: string
  readonly source: OpamSource | undefined
  /** Patches and other files that are added to its source tree. */
  readonly extraSources: readonly ExtraSource[]
}

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

/** Lists the components of an image, up to COMPONENTS_MAX. Linear, except for sorting. */
export function componentsOf(image: UnikernelImage): Components {
  const { opamSwitch } = image
  const hosts = hostPackages(image)
  if (opamSwitch === undefined) return limited([hosts], [], new Map())
  const vendored = vendoredSources(opamSwitch)
  const graph = new DependencyGraph(opamSwitch, vendored)
  const roots = opamSwitch.roots.filter(({ name }) => graph.has(name))
  return limited(
    [opamPackages(opamSwitch), graph.unversioned, vendored, hosts],
    roots.map(({ name }) => opamRef(name)),
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

const opamRef = (name: string) => `opam/${name}`
const vendoredRef = (owner: string, directory: string) => `vendored/${owner}/${directory}`

function opamPackages({ installed }: OpamSwitch): Component[] {
  return installed.map((one) => ({
    ref: opamRef(one.name),
    kind: 'opam',
    name: one.name,
    version: one.version,
    purl: opamPurl(one),
    source: one.source,
    extraSources: one.extraSources,
  }))
}

function vendoredSources({ duniverse }: OpamSwitch): Component[] {
  return duniverse.map((source) => {
    const address = parseSourceAddress(source.url)
    const { url, checksums } = source
    return {
      ref: vendoredRef(source.package, source.directory),
      kind: 'vendored',
      name: source.directory,
      version: findArchiveVersion(address) ?? findGithub(address)?.version ?? address.reference,
      purl: vendoredPurl(source),
      source: { url, checksums },
      extraSources: [],
    }
  })
}

function hostPackages({ systemPackages, buildEnvironment }: UnikernelImage): Component[] {
  if (systemPackages === undefined) return []
  const host = buildEnvironment && describeHost(buildEnvironment)
  return systemPackages.packages.map((one) => ({
    ref: ['host', one.name, one.version, one.architecture ?? ''].join('/'),
    kind: 'host',
    name: one.name,
    version: one.version,
    purl: hostPurl(systemPackages.manager, one, host),
    source: undefined,
    extraSources: [],
  }))
}

/** The dependencies that orb recorded, between components. */
class DependencyGraph {
  readonly #edges = new Map<string, Set<string>>()
  readonly #installed: ReadonlySet<string>
  readonly #vendored: ReadonlySet<string>
  readonly #unversioned = new Map<string, Component>()

  constructor(opamSwitch: OpamSwitch, vendored: readonly Component[]) {
    this.#installed = new Set(opamSwitch.installed.map(({ name }) => name))
    this.#vendored = new Set(vendored.map(({ ref }) => ref))
    for (const { package: owner, name, dependsOn } of opamSwitch.dependencies) {
      const from = name === owner ? this.#refOf('', name) : this.#refOf(owner, name)
      if (!this.#edges.has(from)) this.#edges.set(from, new Set())
      for (const one of dependsOn) this.#add(from, this.#refOf(owner, one))
    }
    const reached = new Set([...this.#edges.values()].flatMap((targets) => [...targets]))
    for (const { package: owner, directory } of opamSwitch.duniverse) {
      const ref = vendoredRef(owner, directory)
      // No dependency names this source: the package that vendors it depends on it.
      if (!reached.has(ref)) this.#add(this.#refOf('', owner), ref)
    }
  }

  get edges(): ReadonlyMap<string, readonly string[]> {
    return new Map([...this.#edges].map(([ref, targets]) => [ref, [...targets].toSorted()]))
  }

  /** Packages that others depend on, and whose version and source are unknown. */
  get unversioned(): readonly Component[] {
    return [...this.#unversioned.values()].toSorted((a, b) => (a.ref < b.ref ? -1 : 1))
  }

  has(name: string): boolean {
    return this.#installed.has(name) || this.#unversioned.has(name)
  }

  #add(from: string, to: string): void {
    if (from === to) return
    const targets = this.#edges.get(from) ?? new Set()
    this.#edges.set(from, targets.add(to))
  }

  /** A name that is vendored and installed is the vendored one: the unikernel links that. */
  #refOf(owner: string, name: string): string {
    const ref = vendoredRef(owner, name)
    if (this.#vendored.has(ref)) return ref
    if (!this.has(name)) {
      const purl = opamNamePurl(name)
      const unknown = { version: undefined, source: undefined, extraSources: [] }
      this.#unversioned.set(name, { ref: opamRef(name), kind: 'opam', name, purl, ...unknown })
    }
    return opamRef(name)
  }
}
