import type { Layer, Manifest } from '../oci/manifest.ts'
import type { UnikernelConfig } from './config.ts'
import { CLAIMS } from './format.ts'
import { describeFormat, type FileFormat } from './kernel/file-format.ts'
import type { KernelFile } from './kernel/kernel-file.ts'
import { ARCHITECTURES, type Architecture } from './kernel/solo5.ts'
import type { OpamSummary } from './opam/summary.ts'
import {
  findTarget,
  findTargetOfTitle,
  isSolo5Target,
  OTHER_TARGETS,
  type Target,
} from './targets.ts'

/** The OCI names of processors, and the names of uname and Solo5. */
export const OCI_ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  amd64: 'x86_64',
  arm64: 'aarch64',
}

/** The formats of kernels without Solo5 notes, by target. */
const KERNEL_FORMATS: Readonly<Record<(typeof OTHER_TARGETS)[number], readonly FileFormat[]>> = {
  'unikraft-firecracker': ['elf', 'linux', 'pe', 'data'],
  'unikraft-qemu': ['elf', 'linux', 'pe', 'data'],
  unix: ['elf', 'mach-o'],
  macosx: ['mach-o'],
}

/** The target that a part of an image declares. */
export type DeclaredTarget = { readonly where: string; readonly target: Target }

/** Lists the targets that an image declares for its kernel, the most explicit first. */
export function listDeclaredTargets(
  manifest: Pick<Manifest, 'annotations'>,
  kernel: Pick<Layer, 'title'>,
  config: UnikernelConfig | undefined,
  [opamSwitch, opamLock]: readonly (OpamSummary | undefined)[],
): DeclaredTarget[] {
  const annotation = manifest.annotations?.[CLAIMS.target]
  const declared: readonly (readonly [string, Target | undefined])[] = [
    [`annotation ${CLAIMS.target}`, annotation === undefined ? undefined : findTarget(annotation)],
    ['config.target', config?.target],
    ['the ending of the file name', findTargetOfTitle(kernel.title)],
    ['x-mirage-configure of the opam switch', opamSwitch?.target],
    ['x-mirage-configure of the lock file', opamLock?.target],
  ]
  return declared.flatMap(([where, target]) => (target === undefined ? [] : [{ where, target }]))
}

/** Finds the processor that an image declares for its kernel. */
export function findDeclaredArchitecture(
  manifest: Pick<Manifest, 'annotations'>,
  config: UnikernelConfig | undefined,
): Architecture | undefined {
  const name = manifest.annotations?.[CLAIMS.architecture] ?? config?.architecture ?? ''
  return ARCHITECTURES.find((one) => one === (OCI_ARCHITECTURES[name] ?? name))
}

/** True for the format of kernels of some target. */
export function mayBeKernel(format: FileFormat): boolean {
  return Object.values(KERNEL_FORMATS).some((formats) => formats.includes(format))
}

export const NO_NOTES = 'it is not an ELF executable with Solo5 notes'
const HOW = `a unikernel of another kind declares its target: ${OTHER_TARGETS.join(', ')}`

/**
 * Says in one clause why a file without Solo5 notes is no kernel for its declared target, undefined: none is declared.
 * Undefined when it is one.
 */
export function findKernelProblem(
  { format }: Pick<KernelFile, 'format'>,
  declared: DeclaredTarget | undefined,
): string | undefined {
  const other = OTHER_TARGETS.find((one) => one === declared?.target)
  const formats = other === undefined ? [] : KERNEL_FORMATS[other]
  if (formats.includes(format)) return undefined
  const found = describeFormat(format)
  if (declared === undefined) {
    const hint = mayBeKernel(format) && format !== 'data' ? `; ${HOW}` : ''
    return `${NO_NOTES}; ${found}${hint}`
  }
  const { where, target } = declared
  // It would be a kernel of no target.
  if (isSolo5Target(target) && !mayBeKernel(format)) return `${NO_NOTES}; ${found}`
  return isSolo5Target(target)
    ? `${NO_NOTES}, which the target ${target} needs (${where}); ${found}`
    : `${found}, which is no kernel for the target ${target} (${where})`
}
