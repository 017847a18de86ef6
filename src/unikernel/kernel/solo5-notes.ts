import { Buffer } from 'node:buffer'
import { ElfFields, type ElfFormat, MalformedKernelError } from './elf-bytes.ts'
import type { Note } from './elf-notes.ts'

/** Solo5's targets, in the order of `enum abi_target` (elf_abi.h), which begins with 1. */
export const TARGETS = ['hvt', 'spt', 'virtio', 'muen', 'genode', 'xen'] as const
export type Target = (typeof TARGETS)[number]

/** The target of a kernel, and the version of their interface. */
export type Abi = { readonly target: Target; readonly version: number }

/**
 * Kinds of devices that a kernel can request from its host, in the order of `enum mft_type`
 * (mft_abi.h), from 1.
 */
export const DEVICE_KINDS = ['block', 'net'] as const
export type DeviceKind = (typeof DEVICE_KINDS)[number]

/** A device that must be attached when the kernel is started. */
export type Device = {
  readonly kind: DeviceKind
  /** 1 to 67 visible ASCII characters. */
  readonly name: string
}

/** The devices that a kernel needs. Solo5's name for it: unrelated to a manifest in a registry. */
export type ApplicationManifest = {
  readonly version: number
  /** In the order of the manifest, without the reserved entry at its beginning. */
  readonly devices: readonly Device[]
}

// struct abi1_info: |target|version|reserved|reserved|, each a u32.
const ABI_BYTES = 16

// struct mft is aligned to 8, and the descriptor of its note begins after 20 bytes: hence padding.
// |padding 4|version 4|entries 4|entry 104|entry 104|...
const VERSION_AT = 4
const ENTRIES_AT = 8
const MANIFEST_HEAD_BYTES = 12
const MANIFEST_VERSION = 1
// MFT_MAX_ENTRIES: the reserved first is one of them.
const MANIFEST_ENTRIES_MAX = 64

// struct mft_entry: |name 68|type 4|properties 16|the host's 8|attached 1|padding 7|
const ENTRY_BYTES = 104
const NAME_BYTES = 68
const TYPE_AT = 68
const ATTACHED_AT = 96
const MFT_RESERVED_FIRST = 0x40000000

// solo5-elftool writes only letters and digits; hand-written manifests may have others.
const DEVICE_NAME = /^[!-~]+$/

/**
 * Parses the descriptor of an ABI1 note: `struct abi1_info` of Solo5's elf_abi.h. Reserved fields
 * are ignored, as Solo5's tenders do. Throws MalformedKernelError for another size or an unknown
 * target.
 */
export function parseAbi({ descriptor, descriptorOffset }: Note, format: ElfFormat): Abi {
  if (descriptor.length !== ABI_BYTES) {
    throw new MalformedKernelError(
      descriptorOffset,
      `the ABI1 note has ${descriptor.length} bytes, but must have ${ABI_BYTES}`,
    )
  }
  const fields = new ElfFields(descriptor, format)
  const number = fields.u32(0)
  const target = TARGETS[number - 1]
  if (!target) {
    throw new MalformedKernelError(
      descriptorOffset,
      `the target of the ABI1 note is ${number}, but must be one of ${numbered(TARGETS)}`,
    )
  }
  return { target, version: fields.u32(4) }
}

/**
 * Parses the descriptor of an MFT1 note: `struct mft` of Solo5's mft_abi.h, by the rules of its
 * mft_validate. Throws MalformedKernelError for another version or size, 0 or more than 64 entries,
 * a first entry that is not the reserved one, a device of unknown kind, one that is attached
 * already, and a name that is empty, not terminated, or not visible ASCII.
 */
export function parseApplicationManifest(
  { descriptor, descriptorOffset }: Note,
  format: ElfFormat,
): ApplicationManifest {
  const assertNote = (holds: boolean, at: number, problem: () => string) => {
    if (!holds) throw new MalformedKernelError(descriptorOffset + at, `${problem()} (MFT1 note)`)
  }
  const size = descriptor.length
  assertNote(size >= MANIFEST_HEAD_BYTES, 0, () => {
    return `the manifest has ${size} bytes, but must have at least ${MANIFEST_HEAD_BYTES}`
  })
  const fields = new ElfFields(descriptor, format)
  const version = fields.u32(VERSION_AT)
  assertNote(version === MANIFEST_VERSION, VERSION_AT, () => {
    return `the version is ${version}, but must be ${MANIFEST_VERSION}`
  })
  const entries = fields.u32(ENTRIES_AT)
  assertNote(entries >= 1 && entries <= MANIFEST_ENTRIES_MAX, ENTRIES_AT, () => {
    return `the number of entries is ${entries}, but must be 1 to ${MANIFEST_ENTRIES_MAX}, with the reserved first`
  })
  const rightSize = MANIFEST_HEAD_BYTES + entries * ENTRY_BYTES
  assertNote(size === rightSize, 0, () => {
    return `a manifest of ${entries} entries has ${size} bytes, but must have ${rightSize}`
  })

  const devices: Device[] = []
  for (let index = 0; index < entries; index += 1) {
    const at = MANIFEST_HEAD_BYTES + index * ENTRY_BYTES
    const field = descriptor.subarray(at, at + NAME_BYTES)
    assertNote(field[NAME_BYTES - 1] === 0, at, () => {
      return `the name of entry ${index} is not terminated; its byte ${NAME_BYTES} must be 0`
    })
    assertNote(descriptor[at + ATTACHED_AT] === 0, at + ATTACHED_AT, () => {
      return `entry ${index} is marked as attached, but must be 0: only a host attaches`
    })
    const name = Buffer.from(field.subarray(0, field.indexOf(0))).toString('latin1')
    const type = fields.u32(at + TYPE_AT)
    if (index === 0) {
      assertNote(type === MFT_RESERVED_FIRST && name === '', at, () => {
        return `the first entry has type ${type} and ${name === '' ? 'no' : 'a'} name, but must be the reserved one: type ${MFT_RESERVED_FIRST}, no name`
      })
      continue
    }
    const kind = DEVICE_KINDS[type - 1]
    if (!kind) {
      throw new MalformedKernelError(
        descriptorOffset + at + TYPE_AT,
        `the type of entry ${index} is ${type}, but must be one of ${numbered(DEVICE_KINDS)} (MFT1 note)`,
      )
    }
    assertNote(DEVICE_NAME.test(name), at, () => {
      return `the name of entry ${index} is ${name === '' ? 'empty' : 'not printable'}, but must be 1 to ${NAME_BYTES - 1} visible ASCII characters`
    })
    devices.push({ kind, name })
  }
  return { version, devices }
}

function numbered(names: readonly string[]): string {
  return names.map((name, index) => `${index + 1} (${name})`).join(', ')
}
