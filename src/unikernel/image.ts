import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import type { Digest } from '../oci/digest.ts'
import type { UnikernelConfig } from './config.ts'
import type { Input, Role } from './format.ts'
import type { BuildEnvironment } from './host/build-environment.ts'
import type { BuildHashes } from './host/build-hashes.ts'
import type { SystemPackages } from './host/system-packages.ts'
import type { Architecture, Solo5Kernel } from './kernel/solo5.ts'
import type { Device } from './kernel/solo5-notes.ts'
import type { OpamAbout } from './opam/definition.ts'
import type { OpamLock } from './opam/lock.ts'
import type { OpamSwitch } from './opam/switch.ts'
import type { Target } from './targets.ts'

/** A layer of a unikernel image. */
export type ImageLayer = {
  /** Undefined for a layer that has no role in the format. */
  readonly role: Role | undefined
  readonly title: string | undefined
  readonly mediaType: string
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
  /** Why the layer has no analysis, in one line. The layer is stored anyway. */
  readonly problem: string | undefined
}

export type Kernel = {
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
  readonly title: string | undefined
  /** By the notes of a Solo5 kernel; declared for any other. */
  readonly target: Target
  readonly architecture: Architecture | undefined
  /** Undefined for a unikernel of another kind, whose ABI and devices are unknown. */
  readonly solo5: Solo5Kernel | undefined
}

/** The synopsis and the description of the unikernel's own package: of its opam switch, or else of its lock file. */
export function aboutOf({ opamSwitch, opamLock }: UnikernelImage): OpamAbout | undefined {
  return opamSwitch?.about ?? opamLock?.about
}

/** The version of the ABI of a kernel, undefined when it is unknown. */
export function abiVersionOf({ solo5 }: Kernel): number | undefined {
  return solo5?.abi.version
}

/** The devices of a kernel, undefined when they are unknown. */
export function devicesOf({ solo5 }: Kernel): readonly Device[] | undefined {
  return solo5?.manifest.devices
}

/** A unikernel image with the analyses of its layers. */
export type UnikernelImage = {
  readonly kernel: Kernel
  /** In the order of the manifest, with the kernel. */
  readonly layers: readonly ImageLayer[]
  readonly config: UnikernelConfig | undefined
  readonly opamSwitch: OpamSwitch | undefined
  readonly opamLock: OpamLock | undefined
  readonly systemPackages: SystemPackages | undefined
  readonly buildEnvironment: BuildEnvironment | undefined
  readonly buildHashes: BuildHashes | undefined
  /** 64 hexadecimal digits. Undefined without all three inputs. */
  readonly inputId: string | undefined
}

/** The SHA-256 of each input's bytes, in hexadecimal. */
export type InputDigests = Readonly<Record<Input, string>>

/**
 * Computes the id of a build's inputs: the SHA-256 of the three raw digests of opam switch, build
 * environment and system packages, concatenated in this order, as builders of MirageOS compute it.
 */
export function inputIdOf(digests: InputDigests): string {
  const hash = createHash('sha256')
  for (const input of ['opam-switch', 'build-environment', 'system-packages'] as const) {
    hash.update(Buffer.from(digests[input], 'hex'))
  }
  return hash.digest('hex')
}
