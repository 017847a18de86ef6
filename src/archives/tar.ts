import { Buffer } from 'node:buffer'
import { ArchiveError } from './archive-error.ts'
import {
  BLOCK_BYTES,
  continuesMap,
  decodeHeader,
  decodeLongPath,
  decodePax,
  EXTENDED_HEADER_BYTES_MAX,
  noTar,
  type PaxRecords,
  type TarHeader,
} from './tar-header.ts'

/** An entry of a tar file. */
export type TarEntry = {
  /** Without `.`, `..` and slashes at its ends; empty for the root. */
  readonly path: string
  readonly kind: 'file' | 'link' | 'symlink' | 'directory' | 'other'
  /** The path of the file that a hard link is; of a symbolic link, the target as it is written. */
  readonly target: string | undefined
  /** Bytes of the content; 0 for a link and a directory. */
  readonly size: number
  /** Where the content begins in the tar file. */
  readonly offset: number
}

/** Receives the content of an entry in order. The chunk is valid during the call. */
export type ContentSink = (chunk: Uint8Array) => void

export type TarLimits = { readonly entriesMax: number }

export type OnTarEntry = (entry: TarEntry) => ContentSink | undefined

/**
 * Reads the entries of a tar file: POSIX with PAX, GNU and the oldest format, as the reader of Go does, with which container
 * engines unpack. `onEntry` returns the sink for the content of an entry, or undefined to skip it. Entries whose path
 * leads out of the archive are skipped, and sparse files are `other`, because their content is not that of the file.
 * Each chunk is read when it arrives, without a wait. Throws ArchiveError, and what `bytes` and `onEntry` throw.
 */
export async function readTar(
  bytes: AsyncIterable<Uint8Array>,
  limits: TarLimits,
  onEntry: OnTarEntry,
): Promise<void> {
  const reader = new TarReader(limits, onEntry)
  for await (const chunk of bytes) reader.read(chunk)
  reader.finish()
}

/** The bytes that follow a header. */
type Content = {
  bytesLeft: number
  readonly sink: ContentSink | undefined
  /** Called after the last byte. */
  readonly onEnd: (() => void) | undefined
}

/** Takes the bytes of a tar file in chunks of any size. */
class TarReader {
  readonly #limits: TarLimits
  readonly #onEntry: OnTarEntry
  readonly #block = Buffer.alloc(BLOCK_BYTES)
  #blockBytes = 0
  /** Where the bytes begin that are read next. */
  #position = 0
  #entries = 0
  #content: Content | undefined
  #paddingLeft = 0
  /** The header of a sparse file, until its map is over. */
  #sparse: TarHeader | undefined
  #pax: PaxRecords = {}
  #longName = ''
  #longLinkname = ''
  #zeroBlocks = 0

  constructor(limits: TarLimits, onEntry: OnTarEntry) {
    this.#limits = limits
    this.#onEntry = onEntry
  }

  read(chunk: Uint8Array): void {
    let rest = chunk
    // Two blocks of zeros end the archive, and what follows is no part of it.
    while (rest.length > 0 && this.#zeroBlocks < 2) {
      const length = Math.min(rest.length, this.#wantedBytes())
      this.#position += length
      this.#take(rest.subarray(0, length))
      rest = rest.subarray(length)
    }
  }

  /** Throws ArchiveError when the archive ends within an entry. */
  finish(): void {
    const isWhole = this.#content === undefined && this.#paddingLeft === 0 && this.#blockBytes === 0
    if (!isWhole || this.#sparse !== undefined) throw noTar('it ends within an entry')
  }

  #wantedBytes(): number {
    if (this.#content !== undefined) return this.#content.bytesLeft
    return this.#paddingLeft > 0 ? this.#paddingLeft : BLOCK_BYTES - this.#blockBytes
  }

  /** Takes at most the wanted bytes. */
  #take(part: Uint8Array): void {
    const content = this.#content
    if (content !== undefined) {
      content.sink?.(part)
      content.bytesLeft -= part.length
      if (content.bytesLeft > 0) return
      this.#content = undefined
      content.onEnd?.()
    } else if (this.#paddingLeft > 0) {
      this.#paddingLeft -= part.length
    } else {
      this.#block.set(part, this.#blockBytes)
      this.#blockBytes += part.length
      if (this.#blockBytes < BLOCK_BYTES) return
      this.#blockBytes = 0
      this.#readBlock()
    }
  }

  #readBlock(): void {
    if (this.#sparse !== undefined) {
      if (!continuesMap(this.#block)) this.#beginEntry(this.#sparse)
      return
    }
    const header = decodeHeader(this.#block)
    if (header === undefined) {
      this.#zeroBlocks += 1
      return
    }
    if (this.#zeroBlocks > 0) throw noTar('a header follows a block of zeros')
    if (header.hasMap) this.#sparse = header
    else if (!this.#beginExtended(header)) this.#beginEntry(header)
  }

  /** Returns false for the header of an entry. */
  #beginExtended({ flag, size }: TarHeader): boolean {
    const onBytes = this.#extensionOf(flag)
    if (onBytes === undefined) return false
    if (size > EXTENDED_HEADER_BYTES_MAX) {
      throw noTar(`an extended header has more than ${EXTENDED_HEADER_BYTES_MAX} bytes`)
    }
    const bytes = Buffer.alloc(size)
    let filled = 0
    const sink: ContentSink = (part) => {
      bytes.set(part, filled)
      filled += part.length
    }
    this.#begin(size, sink, () => onBytes(bytes))
    return true
  }

  #extensionOf(flag: string): ((bytes: Buffer) => void) | undefined {
    if (flag === 'x') {
      return (bytes) => {
        this.#pax = decodePax(bytes)
      }
    }
    // Container engines do not apply the records for the whole archive. `git archive` has a comment there.
    if (flag === 'g') return () => {}
    if (flag === 'L') {
      return (bytes) => {
        this.#longName = decodeLongPath(bytes)
      }
    }
    if (flag !== 'K') return undefined
    return (bytes) => {
      this.#longLinkname = decodeLongPath(bytes)
    }
  }

  #beginEntry(header: TarHeader): void {
    this.#entries += 1
    if (this.#entries > this.#limits.entriesMax) {
      throw new ArchiveError(`it has more than ${this.#limits.entriesMax} entries`)
    }
    const isSparse = header.flag === 'S' || this.#pax.isSparse === true
    const name = this.#longName || this.#pax.sparseName || this.#pax.path || header.name
    const linkname = this.#longLinkname || this.#pax.linkpath || header.linkname
    const kind = isSparse ? 'other' : kindOf(header.flag, name)
    // The size of an entry that has no content says nothing about the bytes that follow.
    const isHeaderOnly = kind === 'directory' || HEADER_ONLY.has(header.flag)
    const size = isHeaderOnly ? 0 : (this.#pax.size ?? header.size)
    this.#sparse = undefined
    this.#pax = {}
    this.#longName = ''
    this.#longLinkname = ''
    const path = normalPath(name)
    const target = targetOf(kind, linkname)
    const offset = this.#position
    const isInside = path !== undefined && (kind !== 'link' || target !== undefined)
    const sink = isInside ? this.#onEntry({ path, kind, target, size, offset }) : undefined
    this.#begin(size, sink, undefined)
  }

  #begin(size: number, sink: Content['sink'], onEnd: Content['onEnd']): void {
    this.#paddingLeft = (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES
    if (size > 0) this.#content = { bytesLeft: size, sink, onEnd }
    else onEnd?.()
  }
}

/** Links, devices, directories and pipes. */
const HEADER_ONLY: ReadonlySet<string> = new Set(['1', '2', '3', '4', '5', '6'])

function kindOf(flag: string, name: string): TarEntry['kind'] {
  if (flag === '1') return 'link'
  if (flag === '2') return 'symlink'
  // The oldest format has no flag for directories.
  if (flag === '5' || (flag === '\0' && name.endsWith('/'))) return 'directory'
  return flag === '0' || flag === '\0' || flag === '7' ? 'file' : 'other'
}

function targetOf(kind: TarEntry['kind'], linkname: string): string | undefined {
  if (kind === 'symlink') return linkname
  return kind === 'link' ? normalPath(linkname) : undefined
}

/** Undefined for a path that leads out of the archive. */
export function normalPath(path: string): string | undefined {
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') parts.push(part)
    else if (parts.pop() === undefined) return undefined
  }
  return parts.join('/')
}
