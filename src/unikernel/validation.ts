import { invalidManifest } from '../oci/descriptor.ts'
import { algorithmOf } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'
import type { Child, Layer, Manifest } from '../oci/manifest.ts'
import type { AnalysisLookup } from './analysis-cache.ts'
import { declaredTargetsOf, declaresUnikernel, findKernel, kernelCandidates } from './assembly.ts'
import { findKernelProblem, NO_NOTES, OCI_ARCHITECTURES } from './declared-kernel.ts'
import { baseName, CLAIMS, findDeclaredRole, INPUTS, ROLES } from './format.ts'
import { abiVersionOf, devicesOf, type UnikernelImage } from './image.ts'
import type { Device } from './kernel/solo5-notes.ts'
import { findTarget, TARGETS } from './targets.ts'

/** The kernel of an image in an index. */
export type ChildKernel = {
  readonly target: string
  readonly architecture: string | undefined
  /** False for a unikernel of another kind. */
  readonly isSolo5: boolean
}

/**
 * Compares the declarations of an image with its bytes (spec/unikernel-image.md, "Validation").
 * `image` is undefined when it has no kernel. Throws MANIFEST_INVALID that names both sides.
 */
export function validateImage(
  manifest: Manifest,
  image: UnikernelImage | undefined,
  lookup: AnalysisLookup,
): void {
  const declared = declaresUnikernel(manifest)
  assertRolesUnique(manifest)
  if (image === undefined) {
    if (declared) throw missingKernel(manifest, lookup)
    return
  }
  if (declared) assertConfigValid(manifest, lookup)
  validateClaims(manifest.annotations ?? {}, image)
  validateConfig(image)
  if (image.kernel.solo5 === undefined) validateDeclaredTargets(manifest, image, lookup)
  validateDebugTwin(image, lookup)
}

/** Compares the platform of a child in an index with the child's kernel. Throws MANIFEST_INVALID. */
export function validateChild(child: Child, kernel: ChildKernel | undefined): void {
  const { platform, digest } = child
  if (platform?.os !== 'solo5') return
  const where = `platform of ${digest}`
  if (!kernel?.isSolo5)
    throw invalidManifest(where, 'is solo5, but this manifest has no Solo5 kernel')
  const { variant, architecture } = platform
  if (variant !== undefined) assertSame(`variant in ${where}`, variant, kernel.target)
  assertSameArchitecture(`architecture in ${where}`, architecture, kernel.architecture)
}

/** Lists the inputs that an image does not have, or that could not be parsed, with the reason. */
export function listMissingInputs(image: UnikernelImage): string[] {
  return INPUTS.flatMap((input) => {
    const layer = image.layers.find(({ role }) => role === input)
    if (layer === undefined) return [input]
    return layer.problem === undefined ? [] : [`${input} (${layer.problem})`]
  })
}

/** Lists what a pusher should know of an image: layers with a problem, such as swapped ones, and missing inputs. */
export function listWarnings(image: UnikernelImage): string[] {
  const problems = image.layers.flatMap(({ role, title, problem }) =>
    problem === undefined ? [] : [`${role ?? title ?? 'a layer'}: ${problem}`],
  )
  const missing = INPUTS.filter((input) => !image.layers.some(({ role }) => role === input))
  return missing.length === 0
    ? problems
    : [...problems, `the image has no input id; missing inputs: ${missing.join(', ')}`]
}

// Tags of the referrers tag schema, and of cosign: the manifest is about another manifest.
const REFERRER_TAG = /^sha256-[0-9a-f]{64}(?:\.[a-z0-9-]+)?$/

/**
 * Refuses an image without provenance, for a repository that requires it. Accepts indexes, because
 * their images were validated when they were pushed, and referrers that have no kernel. Throws
 * MANIFEST_INVALID that names the missing inputs.
 */
export function assertProvenance(
  manifest: Manifest,
  image: UnikernelImage | undefined,
  tags: readonly string[],
): void {
  if (image === undefined) {
    if (manifest.children.length > 0 || manifest.subject !== undefined) return
    if (tags.length > 0 && tags.every((tag) => REFERRER_TAG.test(tag))) return
    throw noProvenance('this repository accepts only unikernels, and this manifest has no kernel')
  }
  const missing = listMissingInputs(image)
  if (missing.length === 0) return
  const names = missing.join(', ')
  throw noProvenance(
    `this repository requires provenance, and the image is missing ${names}`,
    missing,
  )
}

function noProvenance(message: string, missing?: readonly string[]): RegistryError {
  const detail = missing === undefined ? undefined : { missing }
  return new RegistryError('MANIFEST_INVALID', detail, { message })
}

/**
 * Throws MANIFEST_INVALID for an image that declares a role twice. Called before the layers are read, because a
 * manifest may have thousands.
 */
export function assertRolesUnique(manifest: Manifest): void {
  if (!declaresUnikernel(manifest)) return
  const { layers } = manifest
  for (const role of ROLES) {
    const same = layers.filter(({ mediaType }) => findDeclaredRole(mediaType) === role)
    if (same.length > 1)
      throw invalidManifest('layers', `must have at most one ${role}`, same.length)
  }
}

function missingKernel(manifest: Manifest, lookup: AnalysisLookup): RegistryError {
  const claimed = manifest.annotations?.[CLAIMS.target]
  if (claimed !== undefined && findTarget(claimed) === undefined) {
    const right = `must be one of ${TARGETS.join(', ')}`
    return invalidManifest(`annotation ${CLAIMS.target}`, right, claimed.slice(0, 160))
  }
  const candidates = kernelCandidates(manifest)
  for (const layer of candidates) {
    const problem = lookup(layer.digest, 'kernel')?.problem
    if (problem !== undefined) return invalidManifest(named(layer), `is not a kernel: ${problem}`)
  }
  const kernel = findKernel(manifest, lookup)
  const file = kernel && lookup(kernel.digest, 'kernel')?.value
  if (kernel !== undefined && file !== undefined) {
    const [declared] = declaredTargetsOf(manifest, kernel, lookup)
    const problem = findKernelProblem(file, declared)
    return invalidManifest(named(kernel), `is not a kernel: ${problem ?? NO_NOTES}`)
  }
  const only = candidates.find(({ mediaType }) => findDeclaredRole(mediaType) === 'kernel')
  if (only !== undefined) return invalidManifest(named(only), `is not a kernel: ${NO_NOTES}`)
  return invalidManifest('layers', 'must have a kernel: the manifest declares a unikernel')
}

function named({ title, digest }: Layer): string {
  return title === undefined ? `layer ${digest}` : `layer ${baseName(title).slice(0, 80)}`
}

function assertConfigValid({ config }: Manifest, lookup: AnalysisLookup): void {
  const problem = config && lookup(config.digest, 'config')?.problem
  if (problem !== undefined)
    throw invalidManifest('config', `is not a unikernel config: ${problem}`)
}

function validateClaims(claimed: Readonly<Record<string, string>>, image: UnikernelImage): void {
  const { kernel, inputId } = image
  const { target, architecture } = kernel
  const abi = abiVersionOf(kernel)
  const annotation = (name: string) => `annotation ${name}`
  const validate = (name: string, found: string | undefined) => {
    const value = claimed[name]
    if (value !== undefined) assertSame(annotation(name), value, found)
  }
  const claimedTarget = claimed[CLAIMS.target]
  if (claimedTarget !== undefined) {
    assertSame(annotation(CLAIMS.target), findTarget(claimedTarget) ?? claimedTarget, target)
  }
  validate(CLAIMS.abi, abi === undefined ? undefined : String(abi))
  validate(CLAIMS.kernel, kernel.digest)
  validate(CLAIMS.inputId, inputId)
  const processor = claimed[CLAIMS.architecture]
  if (processor !== undefined) {
    assertSameArchitecture(annotation(CLAIMS.architecture), processor, architecture)
  }
  const devices = claimed[CLAIMS.devices]
  if (devices !== undefined) {
    const names = devices.split(',').map((name) => name.trim())
    assertSameDevices(annotation(CLAIMS.devices), names, devicesOf(kernel))
  }
}

function validateConfig({ config, kernel }: UnikernelImage): void {
  const abi = kernel.solo5?.abi
  if (config?.target !== undefined) assertSame('config.target', config.target, kernel.target)
  if (config?.abi?.target !== undefined) {
    assertSame('config.abi.target', config.abi.target, abi?.target)
  }
  if (config?.abi?.version !== undefined) {
    assertSame('config.abi.version', String(config.abi.version), abi && String(abi.version))
  }
  if (config?.architecture !== undefined) {
    assertSameArchitecture('config.architecture', config.architecture, kernel.architecture)
  }
  if (config?.devices !== undefined) {
    assertSameDevices('config.devices', config.devices.map(deviceName), devicesOf(kernel))
  }
}

/** Requires that all declarations name one target: no note says which of them is right. */
function validateDeclaredTargets(
  manifest: Manifest,
  { kernel }: UnikernelImage,
  lookup: AnalysisLookup,
): void {
  const layer = findKernel(manifest, lookup)
  const [first, ...others] = layer === undefined ? [] : declaredTargetsOf(manifest, layer, lookup)
  const other = others.find(({ target }) => target !== kernel.target)
  if (first === undefined || other === undefined) return
  throw invalidManifest(
    other.where,
    `says ${other.target}, but ${first.where} says ${first.target}`,
  )
}

/** The debug twin must have the target, ABI, architecture and devices of the kernel. */
function validateDebugTwin({ layers, kernel }: UnikernelImage, lookup: AnalysisLookup): void {
  const debug = layers.find(({ role }) => role === 'debug')
  const twin = debug && lookup(debug.digest, 'debug')?.value?.solo5
  if (twin === undefined || kernel.solo5 === undefined) return
  const { abi, architecture, manifest } = kernel.solo5
  assertSame('debug twin: target', twin.abi.target, abi.target)
  assertSame('debug twin: ABI version', String(twin.abi.version), String(abi.version))
  assertSame('debug twin: architecture', twin.architecture ?? '', architecture ?? '')
  assertSameDevices('debug twin: devices', twin.manifest.devices.map(deviceName), manifest.devices)
}

/** The hash that the build hashes declare for the kernel, and the hash that the kernel has. */
export type BuildHashComparison = {
  readonly algorithm: string
  readonly declared: string
  readonly found: string
}

/** Throws MANIFEST_INVALID when the kernel has another hash than the build hashes declare. */
export function assertBuildHash({ algorithm, declared, found }: BuildHashComparison): void {
  if (declared === found) return
  throw invalidManifest(
    'build-hashes',
    `says that the ${algorithm} of the kernel is ${declared}, but it is ${found}`,
  )
}

/** A hash that the build hashes declare for the kernel, in hexadecimal. */
export type DeclaredKernelHash = {
  readonly algorithm: string
  readonly declared: string
  /** The kernel's hash, when its digest has the same algorithm. */
  readonly fromDigest: string | undefined
}

/**
 * Finds the kernel's hash in the build hashes by its file name. Among several files of that name the
 * installed one in `bin/` counts; without it the result is undefined, because the name is ambiguous.
 */
export function findDeclaredKernelHash({
  kernel,
  buildHashes,
}: UnikernelImage): DeclaredKernelHash | undefined {
  const name = kernel.title === undefined ? undefined : baseName(kernel.title)
  const files = buildHashes?.files.filter(
    ({ path, digest }) => digest !== undefined && baseName(path) === name,
  )
  const [only, another] = files ?? []
  const file = files?.find(({ path }) => path === `bin/${name}`) ?? (another ? undefined : only)
  if (file?.digest === undefined) return undefined
  const { algorithm, hex } = file.digest
  const isOfDigest = algorithm === algorithmOf(kernel.digest)
  const fromDigest = isOfDigest ? kernel.digest.split(':')[1] : undefined
  return { algorithm, declared: hex, fromDigest }
}

function assertSame(where: string, claimed: string, found: string | undefined): void {
  if (claimed === found) return
  const truth = found === undefined ? 'the image has none' : `the image has ${found}`
  throw invalidManifest(where, `says ${claimed.slice(0, 160)}, but ${truth}`)
}

function assertSameArchitecture(where: string, claimed: string, found: string | undefined): void {
  assertSame(where, OCI_ARCHITECTURES[claimed] ?? claimed, found)
}

function deviceName({ kind, name }: { kind: string; name: string }): string {
  return `${kind}:${name}`
}

/** Compares devices, in any order. */
function assertSameDevices(
  where: string,
  claimed: readonly string[],
  devices: readonly Device[] | undefined,
): void {
  if (devices === undefined) {
    throw invalidManifest(
      where,
      'is known of Solo5 kernels alone, and this kernel is of another kind',
    )
  }
  const shown = (names: readonly string[]) => names.toSorted().join(', ') || 'none'
  const listed = shown(claimed.filter((name) => name !== ''))
  const found = shown(devices.map(deviceName))
  if (listed !== found) {
    throw invalidManifest(
      where,
      `says ${listed.slice(0, 400)}, but the kernel has ${found.slice(0, 400)}`,
    )
  }
}
