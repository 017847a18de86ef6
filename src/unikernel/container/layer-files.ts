import { Buffer } from 'node:buffer'
import type { Digest } from '../../oci/digest.ts'

/** Increased whenever other files count as kernels. Layers are then read again when an image with them is pushed. */
export const LAYER_FILES_VERSION = 2

/** A file in a layer that has the notes of a Solo5 kernel. Whether it is one shows its analysis. */
export type KernelFile = {
  /** Without a slash at its beginning. */
  readonly path: string
  /** Where it begins in the decompressed layer. */
  readonly offset: number
  /** In bytes. */
  readonly size: number
  /** Known once the file was read. */
  readonly digest?: Digest
}

/** The entries of a layer that can hide the files of lower layers, or are files of lower layers. */
export type LayerPaths = {
  /** Entries that are neither directories nor kernels. With many entries only those that are named like kernels. */
  readonly files: readonly string[]
  readonly directories: readonly string[]
  /** Whiteouts: these paths of lower layers are removed. */
  readonly removed: readonly string[]
  /** Opaque whiteouts: the contents that these directories have in lower layers are removed. */
  readonly opaque: readonly string[]
  /** Hard links to files that are no kernels of this layer, as pairs of path and target. */
  readonly links: readonly (readonly [path: string, target: string])[]
  /** Symbolic links, with their targets as they are written. */
  readonly symlinks: readonly (readonly [path: string, target: string])[]
  /** The lists that do not have all entries of their kind, because there are too many. */
  readonly incomplete: readonly IncompleteList[]
}

/** `files`: only those with the name of a kernel are there. */
export type IncompleteList = 'files' | 'kernels' | 'removed' | 'links' | 'symlinks'

export type LayerFiles = { readonly kernels: readonly KernelFile[]; readonly paths: LayerPaths }

/** An entry of a layer: that of `archives/tar.ts`. */
type Entry = {
  readonly path: string
  readonly kind: 'file' | 'link' | 'symlink' | 'directory' | 'other'
  readonly target: string | undefined
  readonly size: number
  readonly offset: number
}

/** Layers with more entries keep only the paths that are named like kernels. */
export const PATHS_MAX = 1_000
const PATH_CHARACTERS_MAX = 128 * 1024
/** Kernels, hard links to files of lower layers, and symbolic links with the name of a kernel, of one layer. */
export const LISTED_MAX = 1_000
/** Whiteouts of one layer. */
export const WHITEOUTS_MAX = 10_000
/** Symbolic links of one layer, which may be folders on the way to a kernel. A base image has some thousands. */
export const SYMLINKS_MAX = 4_000
const LISTED_PATH_CHARACTERS_MAX = 1_024

/** The extensions that the tools of MirageOS give the kernels of each target. */
const EXTENSIONS = 'hvt|spt|virtio|muen|genode|xen'
const KERNEL_NAME = new RegExp(`(?:^|/)(?:unikernel(?:\\.[^/]*)?|[^/]*\\.(?:${EXTENSIONS}))$`)
const ROOT_UNIKERNEL = /^unikernel(?:\.[^/]*)?$/
const ROOT_KERNEL = new RegExp(`^[^/]+\\.(?:${EXTENSIONS})$`)
const DEBUG_TWIN = /\.debug$/

/**
 * How well a path fits the kernel of a container image, from 0: `/unikernel` with any extension, a file of the root with
 * the extension of a target, any other path. A debug twin never fits: undefined.
 */
export function rankOf(path: string): 0 | 1 | 2 | undefined {
  if (DEBUG_TWIN.test(path)) return undefined
  if (ROOT_UNIKERNEL.test(path)) return 0
  return ROOT_KERNEL.test(path) ? 1 : 2
}

/** True for a file of the root with the name of a kernel. */
export function isNamedKernel(path: string): boolean {
  return (rankOf(path) ?? 2) < 2
}

const WHITEOUT = '.wh.'
const OPAQUE = '.wh..wh..opq'
/** Whiteouts of AUFS itself, such as `.wh..wh.plnk`, remove nothing. */
const RESERVED = '.wh..wh.'

/** Gathers the facts about the files of one layer from its entries. */
export class LayerFilesBuilder {
  readonly #kernels = new Map<string, KernelFile>()
  /** The folders of the kernels. */
  readonly #folders = new Set<string>()
  readonly #files = new Set<string>()
  readonly #directories = new Set<string>()
  readonly #removed = new Set<string>()
  readonly #opaque = new Set<string>()
  readonly #links = new Map<string, string>()
  readonly #symlinks = new Map<string, string>()
  readonly #incomplete = new Set<IncompleteList>()
  #characters = 0
  #isSelective = false

  /** Adds an entry. The result receives the content of a file that may be a kernel. */
  add(entry: Entry): ((chunk: Uint8Array) => void) | undefined {
    const { path, kind, target, size, offset } = entry
    const name = path.slice(path.lastIndexOf('/') + 1)
    if (name.startsWith(WHITEOUT)) return this.#addWhiteout(path, name)
    if (kind === 'directory') {
      this.#kernels.delete(path)
      this.#symlinks.delete(path)
      if (path !== '') this.#keep(this.#directories, path)
      return undefined
    }
    this.#replace(path)
    if (kind === 'link' && target !== undefined) return this.#addLink(path, target)
    if (kind === 'symlink' && target !== undefined) return this.#addSymlink(path, target)
    if (kind !== 'file' || size < KERNEL_BYTES_MIN) {
      this.#keep(this.#files, path)
      return undefined
    }
    const notes = new NoteSearch()
    let received = 0
    return (chunk) => {
      notes.read(chunk)
      received += chunk.length
      if (received < size) return
      if (!notes.isFound) this.#keep(this.#files, path)
      else if (this.#kernels.size < LISTED_MAX && isListable(path)) {
        this.#addKernel({ path, offset, size })
      } else {
        this.#incomplete.add('kernels')
        this.#keep(this.#files, path)
      }
    }
  }

  finish(): LayerFiles {
    return {
      kernels: [...this.#kernels.values()],
      paths: {
        files: [...this.#files],
        directories: [...this.#directories],
        removed: [...this.#removed],
        opaque: [...this.#opaque],
        links: [...this.#links],
        symlinks: [...this.#symlinks],
        incomplete: [...this.#incomplete],
      },
    }
  }

  #addKernel(kernel: KernelFile): void {
    const { path } = kernel
    this.#kernels.set(path, kernel)
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      this.#folders.add(path.slice(0, at))
    }
  }

  /** A later entry of a layer replaces an earlier one, and all below it. */
  #replace(path: string): void {
    this.#kernels.delete(path)
    // Most entries are no folder of a kernel: these cost no search.
    if (this.#folders.delete(path)) {
      const below = `${path}/`
      for (const kernel of this.#kernels.keys()) {
        if (kernel.startsWith(below)) this.#kernels.delete(kernel)
      }
    }
    this.#links.delete(path)
    this.#symlinks.delete(path)
    this.#files.delete(path)
  }

  #addWhiteout(path: string, name: string): undefined {
    const parent = path.slice(0, Math.max(0, path.length - name.length - 1))
    if (name === OPAQUE) {
      if (this.#opaque.size < WHITEOUTS_MAX && isListable(parent)) this.#opaque.add(parent)
      else this.#incomplete.add('removed')
    } else if (!name.startsWith(RESERVED)) {
      const removed = join(parent, name.slice(WHITEOUT.length))
      if (this.#removed.size < WHITEOUTS_MAX && isListable(removed)) this.#removed.add(removed)
      else this.#incomplete.add('removed')
    }
  }

  #addLink(path: string, target: string): undefined {
    const kernel = this.#kernels.get(target)
    if (kernel !== undefined && isListable(path)) this.#addKernel({ ...kernel, path })
    else if (this.#links.size < LISTED_MAX && isListable(path) && isListable(target)) {
      this.#links.set(path, this.#links.get(target) ?? target)
    } else {
      this.#incomplete.add('links')
      this.#keep(this.#files, path)
    }
  }

  #addSymlink(path: string, target: string): undefined {
    const max = KERNEL_NAME.test(path) ? SYMLINKS_MAX + LISTED_MAX : SYMLINKS_MAX
    if (this.#symlinks.size < max && isListable(path) && isListable(target)) {
      this.#symlinks.set(path, target)
    } else {
      this.#incomplete.add('symlinks')
      this.#keep(this.#files, path)
    }
  }

  #keep(paths: Set<string>, path: string): void {
    if (this.#isSelective && !KERNEL_NAME.test(path)) return
    if (paths.size >= PATHS_MAX || !isListable(path)) {
      this.#incomplete.add('files')
      return
    }
    paths.add(path)
    this.#characters += path.length
    const count = this.#files.size + this.#directories.size
    if (this.#isSelective || (count < PATHS_MAX && this.#characters < PATH_CHARACTERS_MAX)) return
    this.#isSelective = true
    this.#incomplete.add('files')
    for (const kept of [this.#files, this.#directories]) {
      for (const one of kept) if (!KERNEL_NAME.test(one)) kept.delete(one)
    }
  }
}

const isListable = (path: string) => path.length <= LISTED_PATH_CHARACTERS_MAX

function join(parent: string, name: string): string {
  return parent === '' ? name : `${parent}/${name}`
}

/** An ELF header, and a note. */
const KERNEL_BYTES_MIN = 64 + 24
const ELF = Buffer.from('\x7fELF', 'latin1')
// The type of a note is before its name: see `kernel/solo5.ts`. In either byte order.
const NOTES = ['MFT1Solo5\0', '1TFMSolo5\0'].map((text) => Buffer.from(text, 'latin1'))
const NOTE_BYTES = 10

/** Finds whether a file is an ELF that has the note of Solo5's application manifest anywhere. */
class NoteSearch {
  #head = Buffer.alloc(0)
  #end = Buffer.alloc(0)
  #isElf: boolean | undefined
  isFound = false

  read(chunk: Uint8Array): void {
    if (this.isFound || this.#isElf === false) return
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    if (this.#isElf === undefined) {
      this.#head = Buffer.concat([this.#head, bytes.subarray(0, ELF.length)])
      if (this.#head.length < ELF.length) {
        this.#end = Buffer.concat([this.#end, bytes])
        return
      }
      this.#isElf = this.#head.subarray(0, ELF.length).equals(ELF)
      if (!this.#isElf) return
    }
    const seam = Buffer.concat([this.#end, bytes.subarray(0, NOTE_BYTES - 1)])
    this.isFound = NOTES.some((note) => bytes.includes(note) || seam.includes(note))
    this.#end = Buffer.concat([this.#end, bytes.subarray(-(NOTE_BYTES - 1))]).subarray(
      -(NOTE_BYTES - 1),
    )
  }
}
