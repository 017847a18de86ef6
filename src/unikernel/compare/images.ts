import type { Digest } from '../../oci/digest.ts'
import type { SystemPackages } from '../host/system-packages.ts'
import { abiVersionOf, devicesOf, type UnikernelImage } from '../image.ts'
import { type ImagePackage, listKnownPackages } from '../image-packages.ts'
import type { Device } from '../kernel/solo5-notes.ts'
import type { ValueChange } from './differences.ts'
import {
  compareEnvironments,
  compareHosts,
  type EnvironmentComparison,
  type HostComparison,
} from './host.ts'
import { compareOpam, type OpamComparison, opamSideOf } from './opam.ts'
import { type ReplacedSource, replacedSources } from './sources.ts'

/** A kernel in a comparison. */
export type KernelSide = {
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
  readonly target: string
  /** Null, and no devices are compared, when a kernel is no Solo5 kernel. */
  readonly abiVersion: number | null
  readonly architecture: string | undefined
}

/**
 * The verdict about two builds. `reproduced`: the same inputs and the same kernel;
 * `not-reproducible`: the same inputs and another kernel; `same-output`: other inputs and the same
 * kernel; `different`: other inputs and another kernel; `unknown`: a side has unknown inputs. `same-image`: both are one
 * image, which says nothing about a second build.
 */
export type Verdict =
  | 'same-image'
  | 'reproduced'
  | 'not-reproducible'
  | 'same-output'
  | 'different'
  | 'unknown'

type DeviceChanges = { readonly added: readonly Device[]; readonly removed: readonly Device[] }

/** The differences between two images. A part that one side does not have is undefined. */
export type Comparison = {
  readonly verdict: Verdict
  readonly inputId: ValueChange<string | undefined>
  readonly kernel: ValueChange<KernelSide> & { readonly same: boolean }
  /** Sources with other bytes under the same URL. */
  readonly replacedSources: readonly ReplacedSource[]
  readonly devices: DeviceChanges | null
  readonly opam: OpamComparison | undefined
  readonly systemPackages: HostComparison | undefined
  readonly buildEnvironment: EnvironmentComparison | undefined
}

/** Compares the analyses of two images, with what is known about their packages. `isSame`: both have the same manifest. */
export function compareImages(
  from: UnikernelImage,
  to: UnikernelImage,
  isSame = false,
  packages: ValueChange<readonly ImagePackage[]> = {
    from: listKnownPackages(from),
    to: listKnownPackages(to),
  },
): Comparison {
  const opam = [opamSideOf(from, packages.from), opamSideOf(to, packages.to)] as const
  return {
    verdict: isSame ? 'same-image' : verdictOf(from, to),
    inputId: { from: from.inputId, to: to.inputId },
    kernel: {
      same: from.kernel.digest === to.kernel.digest,
      from: kernelSide(from),
      to: kernelSide(to),
    },
    replacedSources: both(...opam, replacedSources) ?? [],
    devices: both(devicesOf(from.kernel), devicesOf(to.kernel), compareDevices) ?? null,
    opam: both(...opam, compareOpam),
    systemPackages: both(readPackages(from), readPackages(to), compareHosts),
    buildEnvironment: both(from.buildEnvironment, to.buildEnvironment, compareEnvironments),
  }
}

function both<T, C>(
  from: T | undefined,
  to: T | undefined,
  compare: (from: T, to: T) => C,
): C | undefined {
  return from === undefined || to === undefined ? undefined : compare(from, to)
}

/** A list of no known package manager has no packages to compare. */
function readPackages({ systemPackages }: UnikernelImage): SystemPackages | undefined {
  return systemPackages?.manager === undefined ? undefined : systemPackages
}

function verdictOf(from: UnikernelImage, to: UnikernelImage): Verdict {
  if (from.inputId === undefined || to.inputId === undefined) return 'unknown'
  const sameOutput = from.kernel.digest === to.kernel.digest
  if (from.inputId === to.inputId) return sameOutput ? 'reproduced' : 'not-reproducible'
  return sameOutput ? 'same-output' : 'different'
}

function kernelSide({ kernel }: UnikernelImage): KernelSide {
  const { digest, size, target, architecture } = kernel
  return { digest, size, target, abiVersion: abiVersionOf(kernel) ?? null, architecture }
}

/** A device of another kind under the same name is another device. */
function compareDevices(from: readonly Device[], to: readonly Device[]): DeviceChanges {
  const keyOf = ({ kind, name }: Device) => `${kind}:${name}`
  const without = (devices: readonly Device[], others: readonly Device[]) => {
    const keys = new Set(others.map(keyOf))
    return devices.filter((device) => !keys.has(keyOf(device)))
  }
  return { added: without(to, from), removed: without(from, to) }
}
