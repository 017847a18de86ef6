import type { Digest } from '../../oci/digest.ts'
import type { UnikernelImage } from '../image.ts'
import type { Device } from '../kernel/solo5-notes.ts'
import type { ValueChange } from './differences.ts'
import {
  compareEnvironments,
  compareHosts,
  type EnvironmentComparison,
  type HostComparison,
} from './host.ts'
import { compareSwitches, type OpamComparison } from './opam.ts'

/** A kernel as it is compared. */
export type KernelSide = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly target: string
  readonly abiVersion: number
  readonly architecture: string | undefined
}

/**
 * What two builds say of one another. `reproduced`: the same inputs made the same kernel;
 * `not-reproducible`: the same inputs made another; `same-output`: other inputs made the same;
 * `different`; and `unknown` when the inputs of a side are.
 */
export type Verdict = 'reproduced' | 'not-reproducible' | 'same-output' | 'different' | 'unknown'

/** How one image differs from another. A part that a side does not tell of is undefined. */
export type Comparison = {
  readonly verdict: Verdict
  readonly inputId: ValueChange<string | undefined>
  readonly kernel: ValueChange<KernelSide> & { readonly same: boolean }
  readonly devices: { readonly added: readonly Device[]; readonly removed: readonly Device[] }
  readonly opam: OpamComparison | undefined
  readonly systemPackages: HostComparison | undefined
  readonly buildEnvironment: EnvironmentComparison | undefined
}

/** Compares what is known of two images. */
export function compareImages(from: UnikernelImage, to: UnikernelImage): Comparison {
  return {
    verdict: verdictOf(from, to),
    inputId: { from: from.inputId, to: to.inputId },
    kernel: {
      same: from.kernel.digest === to.kernel.digest,
      from: kernelSide(from),
      to: kernelSide(to),
    },
    devices: compareDevices(devicesOf(from), devicesOf(to)),
    opam: both(from.opamSwitch, to.opamSwitch, compareSwitches),
    systemPackages: both(from.systemPackages, to.systemPackages, compareHosts),
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

function verdictOf(from: UnikernelImage, to: UnikernelImage): Verdict {
  if (from.inputId === undefined || to.inputId === undefined) return 'unknown'
  const sameOutput = from.kernel.digest === to.kernel.digest
  if (from.inputId === to.inputId) return sameOutput ? 'reproduced' : 'not-reproducible'
  return sameOutput ? 'same-output' : 'different'
}

function kernelSide({ kernel }: UnikernelImage): KernelSide {
  const { digest, size, solo5 } = kernel
  const { abi, architecture } = solo5
  return { digest, size, target: abi.target, abiVersion: abi.version, architecture }
}

const devicesOf = ({ kernel }: UnikernelImage) => kernel.solo5.manifest.devices

/** One of another kind under the same name is another device. */
function compareDevices(from: readonly Device[], to: readonly Device[]) {
  const keyOf = ({ kind, name }: Device) => `${kind}:${name}`
  const without = (devices: readonly Device[], others: readonly Device[]) => {
    const known = new Set(others.map(keyOf))
    return devices.filter((device) => !known.has(keyOf(device)))
  }
  return { added: without(to, from), removed: without(from, to) }
}
