import { once } from 'node:events'
import { extract, type Header } from 'tar-stream'
import { ArchiveError } from './archive-error.ts'

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

/**
 * Reads the entries of a tar file: POSIX with PAX, GNU and the oldest format. `onEntry` returns the sink for the content of
 * an entry, or undefined to skip it. Entries whose path leads out of the archive are skipped, and sparse files are
 * `other`, because their content is not that of the file. The memory of the chunks of `bytes` must not change. Throws ArchiveError, and what `bytes` and `onEntry` throw.
 */
export async function readTar(
  bytes: AsyncIterable<Uint8Array>,
  limits: TarLimits,
  onEntry: (entry: TarEntry) => ContentSink | undefined,
): Promise<void> {
  const reader = extract({ filenameEncoding: 'utf-8', allowUnknownFormat: true } as object)
  let failure: unknown
  let entries = 0
  const fail = (error: unknown) => {
    failure ??= error
    reader.destroy()
  }
  reader.on('error', (cause) => {
    failure ??= new ArchiveError(`it is no tar file: ${oneLine(cause)}`, { cause })
  })
  reader.on('entry', (header, content, next) => {
    entries += 1
    content.on('error', () => {})
    content.on('end', next)
    try {
      if (entries > limits.entriesMax) throw tooManyEntries(limits)
      const entry = entryOf(header)
      const sink = entry && onEntry(entry)
      if (sink !== undefined) content.on('data', sinkOf(sink, fail))
      content.resume()
    } catch (error) {
      fail(error)
    }
  })
  // An error ends the wait, too, and is in `failure`.
  const closed = once(reader, 'close').catch(() => {})
  try {
    for await (const chunk of bytes) {
      if (failure !== undefined) break
      if (!reader.write(chunk)) await Promise.race([once(reader, 'drain').catch(() => {}), closed])
    }
    reader.end(undefined)
    await closed
  } finally {
    reader.destroy()
  }
  if (failure !== undefined) throw failure
}

function sinkOf(sink: ContentSink, fail: (error: unknown) => void): (chunk: unknown) => void {
  return (chunk) => {
    try {
      sink(chunk as Uint8Array)
    } catch (error) {
      fail(error)
    }
  }
}

function tooManyEntries({ entriesMax }: TarLimits): ArchiveError {
  return new ArchiveError(`it has more than ${entriesMax} entries`)
}

/** Undefined for a path that leads out of the archive. */
function entryOf(header: Header): TarEntry | undefined {
  const path = normalPath(header.name)
  if (path === undefined) return undefined
  const { byteOffset: offset = 0, pax } = header as Header & {
    byteOffset?: number
    pax?: Readonly<Record<string, string>> | null
  }
  const isSparse = pax != null && Object.keys(pax).some((key) => key.startsWith('GNU.sparse.'))
  const kind = isSparse ? 'other' : kindOf(header.type)
  const target = targetOf(kind, header.linkname ?? '')
  if (kind === 'link' && target === undefined) return undefined
  const size = kind === 'file' || kind === 'other' ? header.size : 0
  return {
    path: isSparse ? (normalPath(pax['GNU.sparse.name'] ?? '') ?? path) : path,
    kind,
    target,
    size,
    offset,
  }
}

function kindOf(type: string | null): TarEntry['kind'] {
  if (type === 'file' || type === 'contiguous-file') return 'file'
  return type === 'link' || type === 'symlink' || type === 'directory' ? type : 'other'
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

function oneLine(error: Error): string {
  return error.message.replace(/\s+/g, ' ').slice(0, MESSAGE_CHARACTERS_MAX)
}

const MESSAGE_CHARACTERS_MAX = 160
