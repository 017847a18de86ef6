import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import type { Digest } from '../oci/digest.ts'
import type { UnikernelConfig } from './config.ts'
import type { Input, Role } from './format.ts'
import type { BuildEnvironment } from './host/build-environment.ts'
import type { BuildHashes } from './host/build-hashes.ts'
import type { SystemPackages } from './host/system-packages.ts'
import type { Solo5Kernel } from './kernel/solo5.ts'
import type { OpamSwitch } from './opam/switch.ts'

/** A layer of a unikernel image, and what the registry makes of it. */
export type ImageLayer = {
  /** Undefined for what the format has no word for. */
  readonly role: Role | undefined
  readonly title: string | undefined
  readonly mediaType: string
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /** Why it was not understood: it is stored, and nothing is known of it. One line. */
  readonly problem: string | undefined
}

export type Kernel = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly title: string | undefined
  readonly solo5: Solo5Kernel
}

/** Everything that the registry read out of one unikernel image. */
export type UnikernelImage = {
  readonly kernel: Kernel
  /** As the manifest has them; also the kernel. */
  readonly layers: readonly ImageLayer[]
  readonly config: UnikernelConfig | undefined
  readonly opamSwitch: OpamSwitch | undefined
  readonly systemPackages: SystemPackages | undefined
  readonly buildEnvironment: BuildEnvironment | undefined
  readonly buildHashes: BuildHashes | undefined
  /** 64 hexadecimal digits. Undefined unless all three inputs are there. */
  readonly inputId: string | undefined
}

/** The SHA-256 of each input's bytes, in hexadecimal. */
export type InputDigests = Readonly<Record<Input, string>>

/**
 * What identifies the inputs of a build: the SHA-256 of the three raw digests one after the other,
 * opam switch, build environment, system packages, as builders of MirageOS compute it.
 */
export function inputIdOf(digests: InputDigests): string {
  const hash = createHash('sha256')
  for (const input of ['opam-switch', 'build-environment', 'system-packages'] as const) {
    hash.update(Buffer.from(digests[input], 'hex'))
  }
  return hash.digest('hex')
}
