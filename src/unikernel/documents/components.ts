import { describeHost } from '../host/build-environment.ts'
import type { UnikernelImage } from '../image.ts'
import type { ExtraSource, OpamSource } from '../opam/definition.ts'
import type { OpamSwitch } from '../opam/switch.ts'
import { hostPurl, opamNamePurl, opamPurl, vendoredPurl } from './purl.ts'
import { findArchiveVersion, findGithub, parseSourceAddress } from './source-address.ts'

// A desktop with everything has some 5000 packages. Lists of a hostile image have many more, and each
// entry becomes half a kilobyte of a document.
export const COMPONENTS_MAX = 10_000
export const DEPENDENCIES_MAX = 50_000

/** Something that an image was made of or with. */
export type Component = {
  /** No other ingredient of the image has it. */
  readonly ref: string
  /** A package of the switch, a source that was built with the unikernel, a package of the host. */
  readonly kind: 'opam' | 'vendored' | 'host'
  readonly name: string
  readonly version: string | undefined
  readonly purl: string
  readonly source: OpamSource | undefined
  /** Patches and other files that go into the tree of its source. */
  readonly extraSources: readonly ExtraSource[]
}

/** What an image was made of, and what depends on what. */
export type Components = {
  readonly list: readonly Component[]
  /** Refs of the packages that were asked for, such as the unikernel itself. */
  readonly roots: readonly string[]
  /** By ref, as far as the switch tells. Each ref once, none to itself; of some, that they have none. */
  readonly dependencies: ReadonlyMap<string, readonly string[]>
  /** How many ingredients and dependencies there are beyond the limits. */
  readonly omitted: number
}

/** Lists what an image was made of, up to INGREDIENTS_MAX: of what is not known, nothing. Linear but for the order. */
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

/** Lets go of what is beyond the limits, and of what leads there. */
function limited(
  lists: readonly (readonly Component[])[],
  roots: readonly string[],
  edges: ReadonlyMap<string, readonly string[]>,
): Components {
  const all = lists.flat()
  const list = all.slice(0, COMPONENTS_MAX)
  const known = new Set(list.map(({ ref }) => ref))
  const dependencies = new Map<string, readonly string[]>()
  let left = DEPENDENCIES_MAX
  let omitted = all.length - list.length
  for (const [ref, targets] of edges) {
    const kept = known.has(ref) ? targets.filter((to) => known.has(to)).slice(0, left) : []
    if (known.has(ref)) dependencies.set(ref, kept)
    left -= kept.length
    omitted += targets.length - kept.length
  }
  return { list, roots: roots.filter((ref) => known.has(ref)), dependencies, omitted }
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

/** What orb says of the dependencies, between the ingredients. */
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
      // Nobody says what wants it: then whoever vendors it does.
      if (!reached.has(ref)) this.#add(this.#refOf('', owner), ref)
    }
  }

  get edges(): ReadonlyMap<string, readonly string[]> {
    return new Map([...this.#edges].map(([ref, targets]) => [ref, [...targets].toSorted()]))
  }

  /** Packages that others depend on, and of which neither version nor source is known. */
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

  /** A name that is vendored and installed is the vendored one: that is what the unikernel links. */
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
