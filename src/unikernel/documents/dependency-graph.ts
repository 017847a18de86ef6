import type { UnikernelImage } from '../image.ts'
import type { VendoredSource } from '../opam/duniverse.ts'
import type { Component } from './component.ts'
import { opamNamePurl, vendoredPurl } from './purl.ts'
import { findArchiveVersion, findGithub, parseSourceAddress } from './source-address.ts'

/** The dependencies that orb or a lock file recorded, between the components of an image. */
export class DependencyGraph {
  readonly #edges = new Map<string, Set<string>>()
  /** Refs by name. */
  readonly #installed: ReadonlyMap<string, string>
  readonly #vendored: ReadonlyMap<string, string>
  readonly #unversioned = new Map<string, Component>()
  /** The vendored sources in which no package is known. */
  readonly sources: readonly Component[]
  /** Refs of the requested packages. */
  readonly roots: readonly string[]

  constructor(image: UnikernelImage, packages: readonly Component[]) {
    const { opamSwitch, opamLock } = image
    this.#installed = refsOf(packages, 'opam')
    this.#vendored = refsOf(packages, 'vendored')
    this.sources = emptySources(image, packages)
    for (const { package: owner, name, dependsOn } of opamSwitch?.dependencies ?? []) {
      const from = name === owner ? this.#ownRef(name) : this.#refOf(name)
      if (!this.#edges.has(from)) this.#edges.set(from, new Set())
      for (const one of dependsOn) this.#add(from, this.#refOf(one))
    }
    const roots = opamSwitch?.roots ?? []
    const locked = (opamLock?.locked ?? []).map(({ name }) => this.#refOf(name))
    for (const { name } of roots) {
      for (const ref of locked) this.#add(this.#ownRef(name), ref)
    }
    // Without a switch, the unikernel is no package: it depends on the packages that are locked.
    const own =
      roots.length > 0 ? roots.flatMap(({ name }) => this.#findOwnRef(name) ?? []) : locked
    const owners = new Map(opamSwitch?.duniverse.map((one) => [one.directory, one.package]))
    const reached = new Set([...this.#edges.values()].flatMap((targets) => [...targets]))
    for (const { ref, kind, directory = '' } of [...packages, ...this.sources]) {
      if (kind === 'opam' || reached.has(ref)) continue
      // No dependency names it: the package that vendors it depends on it.
      const name = owners.get(directory) ?? roots[0]?.name
      const from = name === undefined ? undefined : this.#ownRef(name)
      if (from === undefined) own.push(ref)
      else this.#add(from, ref)
    }
    this.roots = [...new Set(own)]
  }

  get edges(): ReadonlyMap<string, readonly string[]> {
    return new Map([...this.#edges].map(([ref, targets]) => [ref, [...targets].toSorted()]))
  }

  /** Packages that others depend on, and of which nothing else is known. */
  get unversioned(): readonly Component[] {
    return [...this.#unversioned.values()].toSorted((a, b) => (a.ref < b.ref ? -1 : 1))
  }

  #add(from: string, to: string): void {
    if (from === to) return
    const targets = this.#edges.get(from) ?? new Set()
    this.#edges.set(from, targets.add(to))
  }

  /** A name that is vendored and installed is the vendored one: the unikernel links that. */
  #refOf(name: string): string {
    return this.#vendored.get(name) ?? this.#ownRef(name)
  }

  /** The package that vendors others is not one of them. */
  #ownRef(name: string): string {
    const found = this.#findOwnRef(name)
    if (found !== undefined) return found
    const ref = `opam/${name}`
    this.#unversioned.set(name, {
      ...{ ref, kind: 'opam', name, version: undefined, basis: 'unknown', directory: undefined },
      ...{ purl: opamNamePurl(name), source: undefined, extraSources: [] },
    })
    return ref
  }

  #findOwnRef(name: string): string | undefined {
    return this.#installed.get(name) ?? this.#unversioned.get(name)?.ref
  }
}

/** The first version of a name counts: only installed packages have several, and rarely. */
function refsOf(packages: readonly Component[], kind: Component['kind']): Map<string, string> {
  const found = new Map<string, string>()
  for (const one of packages) {
    if (one.kind === kind && !found.has(one.name)) found.set(one.name, one.ref)
  }
  return found
}

function emptySources(
  { opamSwitch, opamLock }: UnikernelImage,
  packages: readonly Component[],
): Component[] {
  const keyOf = (directory: string | undefined, url: string | undefined) => `${directory} ${url}`
  const full = new Set(packages.map(({ directory, source }) => keyOf(directory, source?.url)))
  const found = new Map<string, Component>()
  for (const source of [...(opamSwitch?.duniverse ?? []), ...(opamLock?.duniverse ?? [])]) {
    const key = keyOf(source.directory, source.url)
    if (!full.has(key) && !found.has(key)) found.set(key, sourceComponent(source, found.size))
  }
  return [...found.values()]
}

function sourceComponent(source: VendoredSource, index: number): Component {
  const { url, checksums, directory } = source
  const address = parseSourceAddress(url)
  return {
    ref: `source/${index}/${directory}`,
    kind: 'source',
    name: directory,
    version: findArchiveVersion(address) ?? findGithub(address)?.version ?? address.reference,
    basis: undefined,
    directory,
    purl: vendoredPurl(source),
    source: { url, checksums },
    extraSources: [],
  }
}
