import type { Descriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import type { Layer, Manifest } from '../oci/manifest.ts'
import {
  baseName,
  findDeclaredRole,
  findRoleOfTitle,
  INPUTS,
  type Role,
  UNIKERNEL,
  UNIKERNEL_CONFIG,
} from './format.ts'
import { type ImageLayer, inputIdOf, type UnikernelImage } from './image.ts'
import { type AnalyzedRole, isAnalyzedRole, type LayerAnalysis } from './layer-analysis.ts'

// Of an image that does not say which layer is the kernel, so many are looked at.
const CANDIDATES_MAX = 8
// Kernels are not compressed: whatever says that it is, is none.
const COMPRESSED = /\+(?:gzip|zstd)$|\.(?:gzip|zstd)$/

/** What is known of a part; undefined when it was not read. */
export type AnalysisLookup = <R extends AnalyzedRole>(
  digest: Digest,
  role: R,
) => LayerAnalysis<R> | undefined

/** A part that should be read. */
export type PlannedAnalysis = { readonly part: Descriptor; readonly role: AnalyzedRole }

/** True when an image says of itself that it is a unikernel. */
export function declaresUnikernel({ artifactType, config, layers }: Manifest): boolean {
  return (
    artifactType === UNIKERNEL ||
    config?.mediaType === UNIKERNEL_CONFIG ||
    layers.some(({ mediaType }) => findDeclaredRole(mediaType) === 'kernel')
  )
}

/** What may be the kernel: the layer that says so, or any that is not said to be something else. */
export function kernelCandidates({ layers }: Manifest): readonly Layer[] {
  const declared = layers.filter(({ mediaType }) => findDeclaredRole(mediaType) === 'kernel')
  if (declared.length > 0) return declared
  return layers
    .filter(({ mediaType }) => !findDeclaredRole(mediaType) && !COMPRESSED.test(mediaType))
    .slice(0, CANDIDATES_MAX)
}

/** The other parts that are read, once it is known which layer is the kernel. */
export function planProvenance(manifest: Manifest, kernel: Layer): PlannedAnalysis[] {
  const { config } = manifest
  const roles = rolesOf(manifest.layers, kernel)
  const parts = manifest.layers.flatMap((part, index): PlannedAnalysis[] => {
    const role = roles[index]
    return role === undefined || role === 'kernel' || !isAnalyzedRole(role) ? [] : [{ part, role }]
  })
  return config?.mediaType === UNIKERNEL_CONFIG
    ? [...parts, { part: config, role: 'config' }]
    : parts
}

/** The kernel of an image, by what its layers turned out to be. Undefined when there is none. */
export function findKernel(manifest: Manifest, findFacts: AnalysisLookup): Layer | undefined {
  const kernels = kernelCandidates(manifest).filter(
    ({ digest }) => findFacts(digest, 'kernel')?.value !== undefined,
  )
  // Pushed as they are, a kernel and its twin with symbols differ by their names alone.
  return kernels.find(({ title }) => !title?.endsWith('.debug')) ?? kernels[0]
}

/** Everything that is known of an image; undefined when it has no kernel. */
export function assembleImage(
  manifest: Manifest,
  findFacts: AnalysisLookup,
): UnikernelImage | undefined {
  const kernel = findKernel(manifest, findFacts)
  const solo5 = kernel && findFacts(kernel.digest, 'kernel')?.value
  if (kernel === undefined || solo5 === undefined) return undefined
  const roles = rolesOf(manifest.layers, kernel)
  const layers = manifest.layers.map((layer, index) => described(layer, roles[index], findFacts))
  const found = <R extends AnalyzedRole & Role>(role: R) => {
    const layer = layers.find((one) => one.role === role)
    return layer && findFacts(layer.digest, role)?.value
  }
  const { digest, size, title } = kernel
  const { config } = manifest
  return {
    kernel: { digest, size, title, solo5 },
    layers,
    config:
      config?.mediaType === UNIKERNEL_CONFIG
        ? findFacts(config.digest, 'config')?.value
        : undefined,
    opamSwitch: found('opam-switch'),
    systemPackages: found('system-packages'),
    buildEnvironment: found('build-environment'),
    buildHashes: found('build-hashes'),
    inputId: findInputId(layers, findFacts),
  }
}

/** A role for each layer; no role but undefined stands twice: the first counts. */
function rolesOf(layers: readonly Layer[], kernel: Layer): (Role | undefined)[] {
  const taken = new Set<Role>(['kernel'])
  const kernelAt = layers.findIndex(({ digest }) => digest === kernel.digest)
  return layers.map(({ mediaType, title }, index) => {
    if (index === kernelAt) return 'kernel'
    const role =
      findDeclaredRole(mediaType) ?? (title === undefined ? undefined : findRoleOfTitle(title))
    if (role === undefined || taken.has(role)) return undefined
    taken.add(role)
    return role
  })
}

function described(layer: Layer, role: Role | undefined, findFacts: AnalysisLookup): ImageLayer {
  const { mediaType, digest, size, title } = layer
  const facts = role !== undefined && isAnalyzedRole(role) ? findFacts(digest, role) : undefined
  const none = role === 'debug' && facts !== undefined && facts.value === undefined
  const problem = facts?.problem ?? (none ? 'it has no Solo5 notes' : undefined)
  return { role, title, mediaType, digest, size, problem: problem ?? unknownLayer(role, title) }
}

function unknownLayer(role: Role | undefined, title: string | undefined): string | undefined {
  if (role !== undefined) return undefined
  const name = title === undefined ? 'this layer' : baseName(title)
  return `${name} is none of the layers that a unikernel image has once`
}

function findInputId(layers: readonly ImageLayer[], findFacts: AnalysisLookup): string | undefined {
  const found = INPUTS.map((input) => {
    const layer = layers.find(({ role }) => role === input)
    return layer && findFacts(layer.digest, input)?.sha256
  })
  const [opamSwitch, environment, packages] = found
  if (opamSwitch === undefined || environment === undefined || packages === undefined) {
    return undefined
  }
  return inputIdOf({
    'opam-switch': opamSwitch,
    'build-environment': environment,
    'system-packages': packages,
  })
}
