import type { Descriptor } from '../oci/descriptor.ts'
import type { Layer, Manifest } from '../oci/manifest.ts'
import type { AnalysisLookup } from './analysis-cache.ts'
import type { UnikernelConfig } from './config.ts'
import {
  type DeclaredTarget,
  findDeclaredArchitecture,
  findKernelProblem,
  listDeclaredTargets,
} from './declared-kernel.ts'
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
import { summarizeOpam } from './opam/summary.ts'
import { findTargetOfTitle } from './targets.ts'

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
  const candidates = kernelCandidates(manifest)
  const fileOf = ({ digest }: Layer) => lookup(digest, 'kernel')?.value
  const kernels = candidates.filter((layer) => fileOf(layer)?.solo5 !== undefined)
  // Pushed without roles, a kernel and its debug twin differ by their titles alone.
  const solo5 = kernels.find(isNoTwin) ?? kernels[0]
  if (solo5 !== undefined || !declaresUnikernel(manifest)) return solo5
  // A unikernel of another kind is declared: by the role of the layer, by its ending, or as the only executable.
  const others = candidates.filter(
    (layer) =>
      fileOf(layer) !== undefined && isNoTwin(layer) && findRole('', layer.title) === undefined,
  )
  const isExecutable = (layer: Layer) => {
    const format = fileOf(layer)?.format
    return format === 'elf' || format === 'mach-o'
  }
  return (
    others.find(({ mediaType }) => findDeclaredRole(mediaType) === 'kernel') ??
    others.find(({ title }) => findTargetOfTitle(title) !== undefined) ??
    others.find(isExecutable)
  )
}

const isNoTwin = ({ title }: Layer) => !title?.endsWith('.debug')

/** Assembles an image from the analyses of its blobs. Undefined when it has no kernel. */
export function assembleImage(
  manifest: Manifest,
  lookup: AnalysisLookup,
): UnikernelImage | undefined {
  const kernel = findKernel(manifest, lookup)
  const file = kernel && lookup(kernel.digest, 'kernel')?.value
  if (kernel === undefined || file === undefined) return undefined
  const { solo5 } = file
  const target = solo5?.abi.target ?? findOtherTarget(manifest, kernel, lookup)
  if (target === undefined) return undefined
  const roles = rolesOf(manifest.layers, kernel)
  const layers = manifest.layers
    .map((layer, index) => layerOf(layer, roles[index], solo5 !== undefined, lookup))
    .map((layer) => withSwapNoticed(layer, kernel))
  const found = <R extends AnalyzedRole & Role>(role: R) => {
    const layer = layers.find((one) => one.role === role)
    return layer && lookup(layer.digest, role)?.value
  }
  const { digest, size, title } = kernel
  const config = configOf(manifest, lookup)
  const architecture = file.architecture ?? findDeclaredArchitecture(manifest, config)
  return {
    kernel: { digest, size, title, target, architecture, solo5 },
    layers,
    config,
    opamSwitch: found('opam-switch'),
    opamLock: found('opam-lock'),
    systemPackages: found('system-packages'),
    buildEnvironment: found('build-environment'),
    buildHashes: found('build-hashes'),
    inputId: findInputId(layers, lookup),
  }
}

/** Lists the targets that an image declares for its kernel, the most explicit first. */
export function declaredTargetsOf(
  manifest: Manifest,
  kernel: Layer,
  lookup: AnalysisLookup,
): DeclaredTarget[] {
  const roles = rolesOf(manifest.layers, kernel)
  const summaryOf = (role: 'opam-switch' | 'opam-lock') => {
    const layer = manifest.layers[roles.indexOf(role)]
    const analysis = layer && lookup(layer.digest, role)
    return analysis?.summary ?? (analysis?.value && summarizeOpam(analysis.value))
  }
  const opam = [summaryOf('opam-switch'), summaryOf('opam-lock')]
  return listDeclaredTargets(manifest, kernel, configOf(manifest, lookup), opam)
}

/** Finds the declared target of a kernel without Solo5 notes. Undefined when its bytes are no kernel for it. */
function findOtherTarget(manifest: Manifest, kernel: Layer, lookup: AnalysisLookup) {
  const [declared] = declaredTargetsOf(manifest, kernel, lookup)
  const file = lookup(kernel.digest, 'kernel')?.value
  if (file === undefined || findKernelProblem(file, declared) !== undefined) return undefined
  return declared?.target
}

function configOf({ config }: Manifest, lookup: AnalysisLookup): UnikernelConfig | undefined {
  return config?.mediaType === UNIKERNEL_CONFIG ? lookup(config.digest, 'config')?.value : undefined
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

function layerOf(
  layer: Layer,
  role: Role | undefined,
  isSolo5: boolean,
  lookup: AnalysisLookup,
): ImageLayer {
  const { mediaType, digest, size, title } = layer
  const analysis = role !== undefined && isAnalyzedRole(role) ? lookup(digest, role) : undefined
  const twin = role === 'debug' ? lookup(digest, role) : undefined
  const isNoKernel = isSolo5 && twin !== undefined && twin.value?.solo5 === undefined
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
