import { Buffer } from 'node:buffer'
import { type Elf, findElf } from './elf.ts'
import { type ElfFormat, KernelBytes, MalformedKernelError, type ReadRange } from './elf-bytes.ts'
import { isSolo5Name, listNotes, type Note } from './elf-notes.ts'
import {
  type Abi,
  type ApplicationManifest,
  parseAbi,
  parseApplicationManifest,
} from './solo5-notes.ts'

/** The processors that Solo5 runs on, by the names of Solo5 and uname. */
export const ARCHITECTURES = ['x86_64', 'aarch64', 'ppc64le', 'riscv64'] as const
export type Architecture = (typeof ARCHITECTURES)[number]

/** The checked properties of a Solo5 kernel. */
export type Solo5Kernel = ElfFormat & {
  /** e_machine: the number of the processor in the ELF specification. */
  readonly machine: number
  /** Undefined when Solo5 has no name for this machine with this width and byte order. */
  readonly architecture: Architecture | undefined
  readonly abi: Abi
  readonly manifest: ApplicationManifest
}

// EM_PPC64, EM_X86_64, EM_AARCH64, EM_RISCV; all of 64 bits and little endian.
const MACHINES: Readonly<Record<number, Architecture>> = {
  21: 'ppc64le',
  62: 'x86_64',
  183: 'aarch64',
  243: 'riscv64',
}

const NOTE_NAME = 'Solo5\0'
// Their names in ASCII, as little-endian numbers.
const ABI1 = 0x31494241
const MFT1 = 0x3154464d
const LABELS: Readonly<Record<number, string>> = { [ABI1]: 'ABI1', [MFT1]: 'MFT1' }

/**
 * Reads the Solo5 notes of a kernel of `size` bytes (elf_abi.h and mft_abi.h of Solo5), in at most
 * READS_MAX ranges of together READ_BYTES_MAX. Undefined for a file that is not an ELF executable
 * or has no Solo5 notes. Throws MalformedKernelError for an ELF that is truncated, or whose headers
 * or notes break their rules, and the errors of `read`. Notes are found by program headers, as by
 * Solo5's tenders, and by section headers, as by OCaml's tools. A second note elsewhere is refused,
 * so that no tool reads another kernel than the registry.
 */
export async function findSolo5Kernel(
  size: number,
  read: ReadRange,
): Promise<Solo5Kernel | undefined> {
  const kernel = new KernelBytes(size, read)
  const elf = await findElf(kernel)
  if (!elf) return undefined
  const notes = await findNotes(kernel, elf)
  const [first] = notes.values()
  if (!first) return undefined
  const abi = notes.get(ABI1)
  const manifest = notes.get(MFT1)
  if (!abi || !manifest) {
    const [there, missing] = abi ? ['ABI1', 'MFT1'] : ['MFT1', 'ABI1']
    throw new MalformedKernelError(
      first.offset,
      `there is an ${there} note but no ${missing} note; a Solo5 kernel must have both`,
    )
  }
  for (const segment of elf.loadedSegments) kernel.assertInside(segment)
  const { bits, endianness, machine } = elf
  return {
    bits,
    endianness,
    machine,
    architecture: bits === 64 && endianness === 'little' ? MACHINES[machine] : undefined,
    abi: parseAbi(abi, elf),
    manifest: parseApplicationManifest(manifest, elf),
  }
}

/** Finds the ABI1 and MFT1 notes by their types. Other Solo5 notes are ignored. */
async function findNotes(kernel: KernelBytes, elf: Elf): Promise<Map<number, Note>> {
  const found = new Map<number, Note>()
  for (const part of [...elf.noteSegments, ...elf.noteSections]) {
    for (const note of listNotes(part, await kernel.bytesOf(part), elf)) {
      const label = LABELS[note.type]
      if (label === undefined || !isSolo5Name(note.name)) continue
      if (Buffer.from(note.name).toString('latin1') !== NOTE_NAME) {
        throw new MalformedKernelError(
          note.offset,
          `the name of the ${label} note has ${note.name.length} bytes, but must have ${NOTE_NAME.length}: Solo5 and a NUL`,
        )
      }
      const other = found.get(note.type)
      if (other && other.offset !== note.offset) {
        throw new MalformedKernelError(
          note.offset,
          `there is another ${label} note at byte ${other.offset}; there must be only one`,
        )
      }
      found.set(note.type, note)
    }
  }
  return found
}
