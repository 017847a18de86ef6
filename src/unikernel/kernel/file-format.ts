import { Buffer } from 'node:buffer'
import { describeLikeness, type Likeness, recognizePart } from '../likeness.ts'
import type { Architecture } from './solo5.ts'

/** The first bytes that decide the format of a file. A tar has its mark within the first 512. */
export const FORMAT_BYTES = 4096

/** The formats of files in the place of a kernel, each as a phrase that follows `it is`. */
const FORMATS = {
  elf: 'an ELF executable',
  'elf-object': 'an ELF object file',
  core: 'a core dump (ELF)',
  'mach-o': 'a Mach-O executable (macOS)',
  linux: 'a Linux boot image',
  pe: 'a PE executable (Windows or EFI)',
  wasm: 'a WebAssembly module',
  gzip: 'compressed with gzip',
  zstd: 'compressed with zstd',
  xz: 'compressed with xz',
  bzip2: 'compressed with bzip2',
  lz4: 'compressed with lz4',
  zip: 'a zip archive',
  tar: 'a tar archive',
  cpio: 'a cpio archive',
  ar: 'an ar archive, such as a Debian package',
  rpm: 'an RPM package',
  qcow2: 'a disk image (qcow2)',
  squashfs: 'a file system (squashfs)',
  text: 'text',
  empty: 'empty',
  data: 'data of an unknown format',
} as const
/** The format of a file. A text has that of the part of an image that it looks like. */
export type FileFormat = keyof typeof FORMATS | Exclude<Likeness, 'kernel'>

/** A file, as its first bytes show it. */
export type RecognizedFile = {
  readonly format: FileFormat
  /** The processor of an executable. Undefined for one that Solo5 has no name for. */
  readonly architecture: Architecture | undefined
}

type Magic = readonly [format: FileFormat, offset: number, bytes: readonly number[]]

const ascii = (text: string) => [...Buffer.from(text, 'latin1')]

// From the manuals of the formats; the mark of a boot image is that of Linux's boot protocol.
const MAGICS: readonly Magic[] = [
  ['gzip', 0, [0x1f, 0x8b]],
  ['zstd', 0, [0x28, 0xb5, 0x2f, 0xfd]],
  ['xz', 0, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]],
  ['bzip2', 0, ascii('BZh')],
  ['lz4', 0, [0x04, 0x22, 0x4d, 0x18]],
  ['zip', 0, ascii('PK\x03\x04')],
  ['tar', 257, ascii('ustar')],
  ['cpio', 0, ascii('0707')],
  ['ar', 0, ascii('!<arch>\n')],
  ['rpm', 0, [0xed, 0xab, 0xee, 0xdb]],
  ['qcow2', 0, ascii('QFI\xfb')],
  ['squashfs', 0, ascii('hsqs')],
  ['wasm', 0, ascii('\0asm')],
  ['linux', 0x202, ascii('HdrS')],
  ['linux', 0x38, ascii('ARM\x64')],
  ['pe', 0, ascii('MZ')],
]

/** Recognizes a file by its first FORMAT_BYTES. */
export function recognizeFile(head: Uint8Array): RecognizedFile {
  const bytes = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, FORMAT_BYTES))
  if (bytes.length === 0) return { format: 'empty', architecture: undefined }
  const executable = recognizeElf(bytes) ?? recognizeMachO(bytes)
  if (executable !== undefined) return executable
  const found = MAGICS.find(([, offset, magic]) =>
    magic.every((byte, at) => bytes[offset + at] === byte),
  )
  return { format: found?.[0] ?? recognizeText(bytes), architecture: undefined }
}

/** Says what a file of a format is, in a clause. */
export function describeFormat(format: FileFormat): string {
  return isFormat(format) ? `it is ${FORMATS[format]}` : describeLikeness(format)
}

const ELF = ascii('\x7fELF')
const ELF_TYPES: Readonly<Record<number, FileFormat>> = {
  1: 'elf-object',
  2: 'elf',
  3: 'elf',
  4: 'core',
}
// EM_PPC64, EM_X86_64, EM_AARCH64, EM_RISCV.
const ELF_MACHINES: Readonly<Record<number, Architecture>> = {
  21: 'ppc64le',
  62: 'x86_64',
  183: 'aarch64',
  243: 'riscv64',
}

function recognizeElf(bytes: Buffer): RecognizedFile | undefined {
  if (bytes.length < 20 || !ELF.every((byte, at) => bytes[at] === byte)) return undefined
  const isLittle = bytes[5] !== 2
  const field = (at: number) => (isLittle ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at))
  const is64 = bytes[4] === 2
  return {
    format: ELF_TYPES[field(16)] ?? 'elf-object',
    architecture: is64 && isLittle ? ELF_MACHINES[field(18)] : undefined,
  }
}

// mach-o/loader.h and mach-o/fat.h. A fat file begins as a Java class does; it has few parts.
const MACH_O: readonly number[] = [0xfeedface, 0xfeedfacf]
const FAT = 0xcafebabe
const FAT_PARTS_MAX = 30
const MACH_O_CPUS: Readonly<Record<number, Architecture>> = {
  16777223: 'x86_64',
  16777228: 'aarch64',
}

function recognizeMachO(bytes: Buffer): RecognizedFile | undefined {
  if (bytes.length < 8) return undefined
  if (MACH_O.includes(bytes.readUInt32LE(0))) {
    return { format: 'mach-o', architecture: MACH_O_CPUS[bytes.readUInt32LE(4)] }
  }
  const parts = bytes.readUInt32BE(4)
  const isFat = bytes.readUInt32BE(0) === FAT && parts > 0 && parts <= FAT_PARTS_MAX
  if (!isFat && !MACH_O.includes(bytes.readUInt32BE(0))) return undefined
  return { format: 'mach-o', architecture: undefined }
}

function isFormat(format: FileFormat): format is keyof typeof FORMATS {
  return Object.hasOwn(FORMATS, format)
}

const TEXT_CONTROLS: readonly number[] = [0x09, 0x0a, 0x0c, 0x0d, 0x1b]

function recognizeText(bytes: Buffer): FileFormat {
  const part = recognizePart(bytes)
  if (part !== undefined && part !== 'kernel') return part
  return bytes.some((byte) => byte < 0x20 && !TEXT_CONTROLS.includes(byte)) ? 'data' : 'text'
}
