import { Buffer } from 'node:buffer'
import { ArchiveError } from './archive-error.ts'

/** The header of an entry, or of the extended header before one. */
export type TarHeader = {
  /** One character; `\0` in the oldest format. */
  readonly flag: string
  readonly name: string
  readonly linkname: string
  /** Bytes that follow it, without their padding. */
  readonly size: number
  /** True when further blocks of the map of a sparse file follow it. */
  readonly hasMap: boolean
}

/** The records of an extended header that matter here. */
export type PaxRecords = {
  path?: string
  linkpath?: string
  size?: number
  sparseName?: string
  isSparse?: boolean
}

export const BLOCK_BYTES = 512
// As of the reader of Go, which container engines use: no image with a longer one can be unpacked.
export const EXTENDED_HEADER_BYTES_MAX = 1024 * 1024
// No file of Linux has a longer one.
const PATH_BYTES_MAX = 4096
const RECORD_DIGITS_MAX = 7

const SPACE = 0x20
const NEWLINE = 0x0a
const EQUALS = 0x3d
const BASE_256 = 0x80
const OCTAL = /^[0-7]{1,12}$/
const DECIMAL = /^[0-9]{1,16}$/

// |name 100|mode 8|uid 8|gid 8|size 12|mtime 12|checksum 8|flag 1|linkname 100|magic 8|…|prefix 155|
const NAME = [0, 100] as const
const SIZE = [124, 136] as const
const CHECKSUM = [148, 156] as const
const FLAG = 156
const LINKNAME = [157, 257] as const
const MAGIC = [257, 263] as const
const PREFIX = [345, 500] as const
// The tar program `star` has other fields behind a shorter prefix.
const STAR_PREFIX = [345, 476] as const
const STAR_MAGIC = [508, 512] as const
const IS_EXTENDED = 482
const IS_MAP_EXTENDED = 504

/** An archive that breaks its format. */
export function noTar(problem: string): ArchiveError {
  return new ArchiveError(`it is no tar file: ${problem}`)
}

/** Decodes the header in a block, as the reader of Go does. Undefined for a block of zeros. Throws ArchiveError. */
export function decodeHeader(block: Buffer): TarHeader | undefined {
  const { unsigned, signed } = sumsOf(block)
  if (unsigned === SPACE * 8 && block.every((byte) => byte === 0)) return undefined
  const checksum = numberIn(block, CHECKSUM)
  if (checksum !== unsigned && checksum !== signed) throw noTar('a header has another checksum')
  const flag = String.fromCharCode(block[FLAG] ?? 0)
  const size = numberIn(block, SIZE)
  if (size === undefined) throw noTar('the size of an entry is no number')
  const prefix = textIn(block, prefixOf(block))
  const name = textIn(block, NAME)
  return {
    flag,
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkname: textIn(block, LINKNAME),
    size,
    hasMap: flag === 'S' && block[IS_EXTENDED] !== 0,
  }
}

/** True when another block follows this one of the map of a sparse file. */
export function continuesMap(block: Buffer): boolean {
  return block[IS_MAP_EXTENDED] !== 0
}

/** Decodes the path in the content of a GNU header for a long name. Throws ArchiveError. */
export function decodeLongPath(bytes: Buffer): string {
  return pathOf(bytes.toString('utf8', 0, lengthOfText(bytes)))
}

/** Decodes the records of a PAX header: `length key=value`, each with a newline at its end. Throws ArchiveError. */
export function decodePax(bytes: Buffer): PaxRecords {
  const records: PaxRecords = {}
  let start = 0
  while (start < bytes.length) {
    const space = bytes.indexOf(SPACE, start)
    const end = start + recordLength(bytes, start, space)
    const equals = bytes.indexOf(EQUALS, space)
    const isWhole = equals > space + 1 && equals < end && end <= bytes.length
    if (!isWhole || bytes[end - 1] !== NEWLINE) throw noTar('a PAX header is malformed')
    addRecord(
      records,
      bytes.toString('latin1', space + 1, equals),
      bytes.subarray(equals + 1, end - 1),
    )
    start = end
  }
  return records
}

/** Parses the digits before the space. Returns 0, which no record has, when they are malformed. */
function recordLength(bytes: Buffer, start: number, space: number): number {
  if (space - start > RECORD_DIGITS_MAX) return 0
  const digits = space > start ? bytes.toString('latin1', start, space) : ''
  return DECIMAL.test(digits) ? Number(digits) : 0
}

function addRecord(records: PaxRecords, key: string, bytes: Buffer): void {
  if (key === 'path') records.path = pathIn(bytes)
  else if (key === 'linkpath') records.linkpath = pathIn(bytes)
  else if (key === 'GNU.sparse.name') records.sparseName = pathIn(bytes)
  else if (key === 'size' && bytes.length > 0) records.size = sizeIn(bytes)
  if (key.startsWith('GNU.sparse.')) records.isSparse = true
}

function pathIn(bytes: Buffer): string {
  if (bytes.includes(0)) throw noTar('a path in a PAX header has a zero')
  return pathOf(bytes.toString('utf8'))
}

function sizeIn(bytes: Buffer): number {
  const text = bytes.toString('latin1')
  const size = DECIMAL.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(size)) throw noTar('the size of an entry is no number')
  return size
}

function pathOf(path: string): string {
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) {
    throw new ArchiveError(`it has a path of more than ${PATH_BYTES_MAX} bytes`)
  }
  return path
}

/** Adds the bytes with spaces in place of the checksum. Some old programs counted signed bytes. */
function sumsOf(block: Buffer): { unsigned: number; signed: number } {
  let unsigned = 0
  let large = 0
  for (let at = 0; at < BLOCK_BYTES; at += 1) {
    const byte = at >= CHECKSUM[0] && at < CHECKSUM[1] ? SPACE : (block[at] ?? 0)
    unsigned += byte
    if (byte > 127) large += 1
  }
  return { unsigned, signed: unsigned - 256 * large }
}

function prefixOf(block: Buffer): readonly [number, number] {
  if (block.toString('latin1', ...MAGIC) !== 'ustar\0') return [0, 0]
  return block.toString('latin1', ...STAR_MAGIC) === 'tar\0' ? STAR_PREFIX : PREFIX
}

function textIn(block: Buffer, [start, end]: readonly [number, number]): string {
  const bytes = block.subarray(start, end)
  return bytes.toString('utf8', 0, lengthOfText(bytes))
}

function lengthOfText(bytes: Buffer): number {
  const zero = bytes.indexOf(0)
  return zero === -1 ? bytes.length : zero
}

/** Octal digits between spaces and zeros, or a binary number. Undefined when it is neither, negative or too large. */
function numberIn(block: Buffer, [start, end]: readonly [number, number]): number | undefined {
  const bytes = block.subarray(start, end)
  if (((bytes[0] ?? 0) & BASE_256) !== 0) return binaryNumber(bytes)
  const digits = bytes.toString('latin1').replace(/^[ \0]+|[ \0]+$/g, '')
  const text = digits.split('\0', 1)[0] ?? ''
  if (digits === '') return 0
  return OCTAL.test(text) ? Number.parseInt(text, 8) : undefined
}

function binaryNumber(bytes: Buffer): number | undefined {
  const first = bytes[0] ?? 0
  // The second bit is the sign.
  if ((first & 0x40) !== 0) return undefined
  const number = bytes.subarray(1).reduce((sum, byte) => sum * 256 + byte, first & 0x3f)
  return Number.isSafeInteger(number) ? number : undefined
}
