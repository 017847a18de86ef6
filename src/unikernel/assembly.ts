import type { Descriptor } from '../oci/descriptor.ts'
import type { Layer, Manifest } from '../oci/manifest.ts'
import type { AnalysisLookup } from './analysis-cache.ts'
import {
  baseName,
  FAILED_BUILD,
  findDeclaredRole,
  findRole,
  INPUTS,
  OTHER_FILE,
  type Role,
  UNIKERNEL,
  UNIKERNEL_CONFIG,
} from './format.ts'
import { type ImageLayer, inputIdOf, type UnikernelImage } from './image.ts'
import { type AnalyzedRole, isAnalyzedRole } from './layer-analysis.ts'

// Layers that are analyzed to find the kernel of an image that does not declare it.
const CANDIDATES_MAX = 8
// Kernels are not compressed, so a layer whose media type says that it is compressed is not one.
const COMPRESSED = /\+(?:gzip|zstd)$|\.(?:gzip|zstd)$/

/** A blob to analyze, and the role to analyze it as. */
export type PlannedAnalysis = { readonly blob: Descriptor; readonly role: AnalyzedRole }

/** True when a manifest declares that it is a unikernel image. */
export function declaresUnikernel({ artifactType, config, layers }: Manifest): boolean {
  // Its config is that of the unikernel that the build did not make.
  if (artifactType === FAILED_BUILD) return false
  return (
    artifactType === UNIKERNEL ||
    config?.mediaType === UNIKERNEL_CONFIG ||
    layers.some(({ mediaType }) => findDeclaredRole(mediaType) === 'kernel')
  )
}

/** Lists the layers that may be the kernel: the declared ones, else any that declare no other role. */
export function kernelCandidates({ layers }: Manifest): readonly Layer[] {
  const declared = layers.filter(({ mediaType }) => findDeclaredRole(mediaType) === 'kernel')
  if (declared.length > 0) return declared
  return layers
    .filter(
      ({ mediaType }) =>
        mediaType !== OTHER_FILE && !findDeclaredRole(mediaType) && !COMPRESSED.test(mediaType),
    )
    .slice(0, CANDIDATES_MAX)
}

/** Plans the analysis of the other layers and of the config, once the kernel is found. */
export function planProvenance(manifest: Manifest, kernel: Layer): PlannedAnalysis[] {
  const { config } = manifest
  const roles = rolesOf(manifest.layers, kernel)
  const planned = manifest.layers.flatMap((blob, index): PlannedAnalysis[] => {
    const role = roles[index]
    return role === undefined || role === 'kernel' || !isAnalyzedRole(role) ? [] : [{ blob, role }]
  })
  return config?.mediaType === UNIKERNEL_CONFIG
    ? [...planned, { blob: config, role: 'config' }]
    : planned
}

/** Finds the kernel among the analyzed layers of an image. */
export function findKernel(manifest: Manifest, lookup: AnalysisLookup): Layer | undefined {
  const kernels = kernelCandidates(manifest).filter(
    ({ digest }) => lookup(digest, 'kernel')?.value !== undefined,
  )
  // Pushed without roles, a kernel and its debug twin differ by their titles alone.
  return kernels.find(({ title }) => !title?.endsWith('.debug')) ?? kernels[0]
}

/** Assembles an image from the analyses of its blobs. Undefined when it has no kernel. */
export function assembleImage(
  manifest: Manifest,
  lookup: AnalysisLookup,
): UnikernelImage | undefined {
  const kernel = findKernel(manifest, lookup)
  const solo5 = kernel && lookup(kernel.digest, 'kernel')?.value
  if (kernel === undefined || solo5 === undefined) return undefined
  const roles = rolesOf(manifest.layers, kernel)
  const layers = manifest.layers
    .map((layer, index) => layerOf(layer, roles[index], lookup))
    .map((layer) => withSwapNoticed(layer, kernel))
  const found = <R extends AnalyzedRole & Role>(role: R) => {
    const layer = layers.find((one) => one.role === role)
    return layer && lookup(layer.digest, role)?.value
  }
  const { digest, size, title } = kernel
  const { config } = manifest
  return {
    kernel: { digest, size, title, solo5 },
    layers,
    config:
      config?.mediaType === UNIKERNEL_CONFIG ? lookup(config.digest, 'config')?.value : undefined,
    opamSwitch: found('opam-switch'),
    opamLock: found('opam-lock'),
    systemPackages: found('system-packages'),
    buildEnvironment: found('build-environment'),
    buildHashes: found('build-hashes'),
    inputId: findInputId(layers, lookup),
  }
}

/** Gives each layer its role. The first layer of a role has it; further ones have none. */
function rolesOf(layers: readonly Layer[], kernel: Layer): (Role | undefined)[] {
  const taken = new Set<Role>(['kernel'])
  const kernelAt = layers.findIndex(({ digest }) => digest === kernel.digest)
  return layers.map(({ mediaType, title }, index) => {
    if (index === kernelAt) return 'kernel'
    const role = findRole(mediaType, title)
    if (role === undefined || taken.has(role)) return undefined
    taken.add(role)
    return role
  })
}

function layerOf(layer: Layer, role: Role | undefined, lookup: AnalysisLookup): ImageLayer {
  const { mediaType, digest, size, title } = layer
  const analysis = role !== undefined && isAnalyzedRole(role) ? lookup(digest, role) : undefined
  const isNoKernel = role === 'debug' && analysis !== undefined && analysis.value === undefined
  const problem = analysis?.problem ?? (isNoKernel ? 'it has no Solo5 notes' : undefined)
  const isOther = mediaType === OTHER_FILE
  return {
    ...{ role, title, mediaType, digest, size },
    problem: problem ?? (isOther ? undefined : unknownLayer(role, title)),
  }
}

/** A debug twin has the kernel's bytes and its symbols. */
function withSwapNoticed(layer: ImageLayer, { size }: Layer): ImageLayer {
  if (layer.role !== 'debug' || layer.problem !== undefined || layer.size >= size) return layer
  return {
    ...layer,
    problem: 'it is smaller than the kernel: kernel and debug twin may be swapped',
  }
}

function unknownLayer(role: Role | undefined, title: string | undefined): string | undefined {
  if (role !== undefined) return undefined
  const name = title === undefined ? 'this layer' : baseName(title)
  return `${name} is none of the layers that a unikernel image has once`
}

function findInputId(layers: readonly ImageLayer[], lookup: AnalysisLookup): string | undefined {
  const found = INPUTS.map((input) => {
    const layer = layers.find(({ role }) => role === input)
    return layer && lookup(layer.digest, input)?.sha256
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
