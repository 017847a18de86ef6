import { invalidManifest } from '../oci/descriptor.ts'
import { algorithmOf } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'
import type { Child, Layer, Manifest } from '../oci/manifest.ts'
import { type AnalysisLookup, declaresUnikernel, kernelCandidates } from './assembly.ts'
import { baseName, CLAIMS, findDeclaredRole, INPUTS, ROLES } from './format.ts'
import type { UnikernelImage } from './image.ts'
import type { Device } from './kernel/solo5-notes.ts'

/** The names that OCI, uname and Solo5 give to one processor. */
const ARCHITECTURES: Readonly<Record<string, string>> = { amd64: 'x86_64', arm64: 'aarch64' }

/** What a child of an index turned out to be. */
export type ChildKernel = {
  readonly target: string
  readonly architecture: string | undefined
}

/**
 * Holds what an image says of itself against its bytes (spec/unikernel-image.md, "Judging"). `image`
 * is what was read, if it has a kernel. Throws MANIFEST_INVALID that names both sides.
 */
export function validateImage(
  manifest: Manifest,
  image: UnikernelImage | undefined,
  findFacts: AnalysisLookup,
): void {
  const declared = declaresUnikernel(manifest)
  if (declared) demandOnce(manifest.layers)
  if (image === undefined) {
    if (declared) throw noKernel(manifest, findFacts)
    return
  }
  if (declared) demandUnderstoodConfig(manifest, findFacts)
  judgeClaims(manifest.annotations ?? {}, image)
  judgeConfig(image)
  judgeDebug(image, findFacts)
}

/** Holds the platform that an index gives to a child against the child. Throws MANIFEST_INVALID. */
export function validateChild(child: Child, facts: ChildKernel | undefined): void {
  const { platform, digest } = child
  if (platform?.os !== 'solo5') return
  const where = `platform of ${digest}`
  if (facts === undefined)
    throw invalidManifest(where, 'is solo5, but this manifest has no Solo5 kernel')
  const { variant, architecture } = platform
  if (variant !== undefined) demandSame(`variant in ${where}`, variant, facts.target)
  demandArchitecture(`architecture in ${where}`, architecture, facts.architecture)
}

/** The layers that say from what an image was made, and that it lacks or that were not understood. */
export function listMissingInputs(image: UnikernelImage): string[] {
  return INPUTS.flatMap((input) => {
    const layer = image.layers.find(({ role }) => role === input)
    if (layer === undefined) return [input]
    return layer.problem === undefined ? [] : [`${input} (${layer.problem})`]
  })
}

// How clients without the referrers API, and cosign, name what they say of another manifest.
const CLAIM_TAG = /^sha256-[0-9a-f]{64}(?:\.[a-z0-9-]+)?$/

/**
 * Refuses an image without provenance, for a repository that requires it. Indexes name images that
 * were judged already; claims about another manifest are let through, as long as they have no kernel.
 * Throws MANIFEST_INVALID that says what lacks.
 */
export function assertProvenance(
  manifest: Manifest,
  image: UnikernelImage | undefined,
  tags: readonly string[],
): void {
  if (image === undefined) {
    if (manifest.children.length > 0 || manifest.subject !== undefined) return
    if (tags.length > 0 && tags.every((tag) => CLAIM_TAG.test(tag))) return
    throw lacking('this repository takes unikernels only, and this manifest has no Solo5 kernel')
  }
  const lacks = listMissingInputs(image)
  if (lacks.length === 0) return
  const names = lacks.join(', ')
  throw lacking(`this repository requires provenance, and the image lacks ${names}`, lacks)
}

function lacking(message: string, lacks?: readonly string[]): RegistryError {
  const detail = lacks === undefined ? undefined : { lacking: lacks }
  return new RegistryError('MANIFEST_INVALID', detail, { message })
}

function demandOnce(layers: readonly Layer[]): void {
  for (const role of ROLES) {
    const same = layers.filter(({ mediaType }) => findDeclaredRole(mediaType) === role)
    if (same.length > 1)
      throw invalidManifest('layers', `must have one ${role} at most`, same.length)
  }
}

function noKernel(manifest: Manifest, findFacts: AnalysisLookup): RegistryError {
  const candidates = kernelCandidates(manifest)
  for (const layer of candidates) {
    const facts = findFacts(layer.digest, 'kernel')
    if (facts?.problem !== undefined)
      return invalidManifest(named(layer), `is no kernel: ${facts.problem}`)
  }
  const only = candidates.find(({ mediaType }) => findDeclaredRole(mediaType) === 'kernel')
  if (only !== undefined) {
    return invalidManifest(named(only), 'is no kernel: it is no ELF executable with Solo5 notes')
  }
  return invalidManifest('layers', 'must have a kernel: the manifest says that it is a unikernel')
}

function named({ title, digest }: Layer): string {
  return title === undefined ? `layer ${digest}` : `layer ${baseName(title).slice(0, 80)}`
}

function demandUnderstoodConfig({ config }: Manifest, findFacts: AnalysisLookup): void {
  const problem = config && findFacts(config.digest, 'config')?.problem
  if (problem !== undefined) throw invalidManifest('config', `is none of a unikernel: ${problem}`)
}

function judgeClaims(said: Readonly<Record<string, string>>, image: UnikernelImage): void {
  const { kernel, inputId } = image
  const { abi, architecture, manifest } = kernel.solo5
  const annotation = (name: string) => `annotation ${name}`
  const claim = (name: string, found: string | undefined) => {
    const value = said[name]
    if (value !== undefined) demandSame(annotation(name), value, found)
  }
  claim(CLAIMS.target, abi.target)
  claim(CLAIMS.abi, String(abi.version))
  claim(CLAIMS.kernel, kernel.digest)
  claim(CLAIMS.inputId, inputId)
  const processor = said[CLAIMS.architecture]
  if (processor !== undefined) {
    demandArchitecture(annotation(CLAIMS.architecture), processor, architecture)
  }
  const devices = said[CLAIMS.devices]
  if (devices !== undefined) {
    const names = devices.split(',').map((name) => name.trim())
    demandDevices(annotation(CLAIMS.devices), names, manifest.devices)
  }
}

function judgeConfig({ config, kernel }: UnikernelImage): void {
  const { abi, architecture, manifest } = kernel.solo5
  if (config?.target !== undefined) demandSame('config.target', config.target, abi.target)
  if (config?.abi?.target !== undefined) {
    demandSame('config.abi.target', config.abi.target, abi.target)
  }
  if (config?.abi?.version !== undefined) {
    demandSame('config.abi.version', String(config.abi.version), String(abi.version))
  }
  if (config?.architecture !== undefined) {
    demandArchitecture('config.architecture', config.architecture, architecture)
  }
  if (config?.devices !== undefined) {
    demandDevices('config.devices', config.devices.map(deviceName), manifest.devices)
  }
}

/** The twin with symbols must be one: made for the same as the kernel. */
function judgeDebug({ layers, kernel }: UnikernelImage, findFacts: AnalysisLookup): void {
  const debug = layers.find(({ role }) => role === 'debug')
  const twin = debug && findFacts(debug.digest, 'debug')?.value
  if (twin === undefined) return
  const { abi, architecture, manifest } = kernel.solo5
  demandSame('debug twin: target', twin.abi.target, abi.target)
  demandSame('debug twin: ABI version', String(twin.abi.version), String(abi.version))
  demandSame('debug twin: architecture', twin.architecture ?? '', architecture ?? '')
  demandDevices('debug twin: devices', twin.manifest.devices.map(deviceName), manifest.devices)
}

/** Holds what the build hashes say of the kernel's file against the file. Throws MANIFEST_INVALID. */
export function assertBuildHash(algorithm: string, said: string, found: string): void {
  if (said !== found) {
    throw invalidManifest(
      'build-hashes',
      `says that the ${algorithm} of the kernel is ${said}, but it is ${found}`,
    )
  }
}

/**
 * What the build hashes say of the kernel, found by its name; undefined when they say nothing. Of
 * several files of that name it is the installed one, or nobody knows which.
 */
export function findDeclaredKernelHash({ kernel, buildHashes }: UnikernelImage) {
  const name = kernel.title === undefined ? undefined : baseName(kernel.title)
  const files = buildHashes?.files.filter(
    ({ path, digest }) => digest !== undefined && baseName(path) === name,
  )
  const [only, another] = files ?? []
  const file = files?.find(({ path }) => path === `bin/${name}`) ?? (another ? undefined : only)
  if (file?.digest === undefined) return undefined
  const { algorithm, hex } = file.digest
  // The kernel's own digest answers at once.
  const known = algorithm === algorithmOf(kernel.digest) ? kernel.digest.split(':')[1] : undefined
  return { algorithm, said: hex, known }
}

function demandSame(where: string, said: string, found: string | undefined): void {
  if (said === found) return
  const truth = found === undefined ? 'the image has none' : `the image has ${found}`
  throw invalidManifest(where, `says ${said.slice(0, 160)}, but ${truth}`)
}

function demandArchitecture(where: string, said: string, found: string | undefined): void {
  demandSame(where, ARCHITECTURES[said] ?? said, found)
}

function deviceName({ kind, name }: { kind: string; name: string }): string {
  return `${kind}:${name}`
}

/** Both have the same devices, in any order. */
function demandDevices(where: string, said: readonly string[], devices: readonly Device[]): void {
  const shown = (names: readonly string[]) => names.toSorted().join(', ') || 'none'
  const claimed = shown(said.filter((name) => name !== ''))
  const found = shown(devices.map(deviceName))
  if (claimed !== found) {
    throw invalidManifest(
      where,
      `says ${claimed.slice(0, 400)}, but the kernel has ${found.slice(0, 400)}`,
    )
  }
}
