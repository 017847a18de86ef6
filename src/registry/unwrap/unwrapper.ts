import { ArchiveError } from '../../archives/archive-error.ts'
import type { Actor } from '../../db/auth/audit.ts'
import type { Database } from '../../db/database.ts'
import type { AnalyzedBlobRow, NewLayerFacts } from '../../db/images/layer-analyses.ts'
import { type Digest, digestOf } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'
import { type Layer, type Manifest, parseManifest } from '../../oci/manifest.ts'
import type { Repository } from '../../oci/reference.ts'
import { BlobMissingError, type BlobStore } from '../../storage/blob-store.ts'
import {
  CONTAINER_CONFIG_BYTES_MAX,
  type ContainerDescription,
  describeContainer,
  fileSystemLayers,
} from '../../unikernel/container/container-image.ts'
import { type ContainerKernel, chooseKernels } from '../../unikernel/container/kernels.ts'
import { unwrappedManifest } from '../../unikernel/container/unwrapped-manifest.ts'
import type { ImageAnalysis, ImageAnalyzer } from '../images/analyzer.ts'
import { loadBlobRows } from '../images/blob-rows.ts'
import { withStoreErrors } from '../store-errors.ts'
import type { KernelBlobs } from './kernel-blobs.ts'
import { StoredLayers } from './layer-facts.ts'
import { kernelBytes, type ReadBudget, readLayerFiles } from './layer-reader.ts'
import { Turns } from './turns.ts'

/** A container image whose kernels are looked for. */
export type ContainerImage = {
  readonly repository: Repository
  readonly digest: Digest
  readonly bytes: Uint8Array
  readonly manifest: Manifest
  /** Its pusher. */
  readonly actor: Actor
}

/** The image of a kernel in a container image. */
export type UnwrappedImage = {
  readonly digest: Digest
  readonly bytes: Uint8Array
  readonly manifest: Manifest
  readonly reading: ImageAnalysis
  /** The layer that has the kernel. */
  readonly layer: Digest
}

export type Unwrapped = {
  readonly images: readonly UnwrappedImage[]
  /** True when layers are left to read in the background. */
  readonly isPending: boolean
  /** Why kernels may be missing, in one line. */
  readonly problem: string | undefined
  /** The facts about layers that its push read, and has to store. */
  readonly facts: readonly NewLayerFacts[]
}

const NOTHING_UNWRAPPED: Unwrapped = {
  images: [],
  isPending: false,
  problem: undefined,
  facts: [],
}

/** Layers that a push reads. A kernel in its own layer has some MB; the layers of an operating system have more. */
const PUSH_STORED_BYTES_MAX = 32 * 1024 * 1024
const PUSH_LAYER_BYTES_MAX = 256 * 1024 * 1024
const PUSH_MILLISECONDS_MAX = 20_000
const PUSH_TURN_MILLISECONDS_MAX = 10_000
const PUSHES_AT_ONCE = 2
/** Layers that the background reads. */
const BACKGROUND_LAYER_BYTES_MAX = 16 * 1024 * 1024 * 1024
const BACKGROUND_MILLISECONDS_MAX = 30 * 60_000
/** Once a kernel is found in its usual place, the layers below this many bytes from the top are not read. */
const LAYERS_BESIDE_KERNEL_BYTES_MAX = 32 * 1024 * 1024

type Found = {
  readonly kernels: readonly ContainerKernel[]
  readonly description: ContainerDescription
}

/** Finds the kernels in the layers of container images, and makes an image of each. */
export class Unwrapper {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #analyzer: ImageAnalyzer
  readonly #blobs: KernelBlobs
  readonly #pushes = new Turns(PUSHES_AT_ONCE)
  readonly #isOn: boolean
  #onPending = () => {}

  constructor(
    db: Database,
    store: BlobStore,
    analyzer: ImageAnalyzer,
    blobs: KernelBlobs,
    isOn: boolean,
  ) {
    this.#isOn = isOn
    this.#db = db
    this.#store = store
    this.#analyzer = analyzer
    this.#blobs = blobs
  }

  /** Sets what is called when a push has left layers to the background. */
  set onPending(listener: () => void) {
    this.#onPending = listener
  }

  /**
   * Unwraps an image during its push, and runs `put`, which commits the result: what is too much for a push is left to the
   * background. `rows` has the blobs of the image when they are loaded. Nothing of other manifests is read. Throws
   * UNAVAILABLE, MANIFEST_BLOB_UNKNOWN for a lost layer, and what `put` throws.
   */
  async unwrapPush<T>(
    image: ContainerImage,
    rows: readonly AnalyzedBlobRow[] | undefined,
    put: (unwrapped: Unwrapped) => Promise<T>,
  ): Promise<T> {
    const layers = this.#isOn ? fileSystemLayers(image.manifest) : []
    const stored = layers.length === 0 ? undefined : await this.#load(image, layers, rows)
    if (stored === undefined) return put(NOTHING_UNWRAPPED)
    try {
      const unwrapped = await this.#unwrapNow(image, layers, stored)
      const result = await put({ ...unwrapped, facts: stored.unsaved })
      if (unwrapped.isPending) this.#onPending()
      return result
    } catch (error) {
      // A layer is read once, also when its push is refused, whose error is more important than an error here.
      await stored.save(this.#db).catch(() => {})
      throw error
    }
  }

  async #unwrapNow(
    image: ContainerImage,
    layers: readonly Layer[],
    stored: StoredLayers,
  ): Promise<Unwrapped> {
    const budget = {
      storedBytesLeft: PUSH_STORED_BYTES_MAX,
      layerBytesMax: PUSH_LAYER_BYTES_MAX,
      isLast: false,
      signal: AbortSignal.timeout(PUSH_MILLISECONDS_MAX),
    }
    const unwrap = () => this.#unwrap(image, layers, stored, budget)
    if (layers.every(({ digest }) => stored.facts(digest) !== undefined)) return unwrap()
    return (
      (await this.#pushes.take(PUSH_TURN_MILLISECONDS_MAX, unwrap)) ?? {
        ...NOTHING_UNWRAPPED,
        isPending: true,
      }
    )
  }

  /** Unwraps an image in the background. The result is never pending. Throws as `unwrapPush`. */
  async unwrapLater(image: ContainerImage, signal: AbortSignal): Promise<Unwrapped> {
    const layers = fileSystemLayers(image.manifest)
    const stored = await this.#load(image, layers)
    if (stored === undefined) return NOTHING_UNWRAPPED
    const late = AbortSignal.timeout(BACKGROUND_MILLISECONDS_MAX)
    const result = await this.#unwrap(image, layers, stored, {
      storedBytesLeft: Infinity,
      layerBytesMax: BACKGROUND_LAYER_BYTES_MAX,
      isLast: true,
      signal: AbortSignal.any([signal, late]),
    })
    await stored.save(this.#db)
    signal.throwIfAborted()
    if (!result.isPending) return result
    return { ...result, isPending: false, problem: 'its layers take too long to read' }
  }

  /** Undefined when the repository does not have all layers: the push is refused later. */
  async #load(
    { repository, manifest }: ContainerImage,
    layers: readonly Layer[],
    rows?: readonly AnalyzedBlobRow[],
  ): Promise<StoredLayers | undefined> {
    const digests = [...layers, ...(manifest.config ? [manifest.config] : [])].map(
      ({ digest }) => digest,
    )
    const stored = new StoredLayers(
      rows ?? (await loadBlobRows(this.#db, repository, [...new Set(digests)])),
    )
    return digests.every((digest) => stored.row(digest) !== undefined) ? stored : undefined
  }

  async #unwrap(
    image: ContainerImage,
    layers: readonly Layer[],
    stored: StoredLayers,
    budget: ReadBudget,
  ): Promise<Unwrapped> {
    try {
      const problems = new Set<string>()
      const found = await this.#find(image, layers, stored, budget, problems)
      if (found === 'too much') return { ...NOTHING_UNWRAPPED, isPending: true }
      const images: UnwrappedImage[] = []
      for (const kernel of found.kernels) {
        const made = await this.#makeImage(image, stored, kernel, found.description, budget.signal)
        if (typeof made === 'string') problems.add(made)
        else images.push(made)
      }
      const [problem] = problems
      return { ...NOTHING_UNWRAPPED, images, problem }
    } catch (error) {
      if (error instanceof ArchiveError && budget.signal.aborted) {
        return { ...NOTHING_UNWRAPPED, isPending: true }
      }
      // A sweep cannot take it, because the push has just sent it, or a manifest has it.
      if (!(error instanceof BlobMissingError)) throw error
      const message = 'the registry lost the bytes of a layer: push it before the manifest'
      throw new RegistryError('MANIFEST_BLOB_UNKNOWN', undefined, { message, cause: error })
    }
  }

  /** Reads layers from the top, and chooses the kernels. The result depends on the image alone, not on what was stored. */
  async #find(
    image: ContainerImage,
    layers: readonly Layer[],
    stored: StoredLayers,
    budget: ReadBudget,
    problems: Set<string>,
  ): Promise<Found | 'too much'> {
    const { repository } = image
    const read: Digest[] = []
    let description: ContainerDescription | undefined
    let bytes = 0
    const choose = async () => {
      await stored.loadPaths(this.#db, repository)
      description ??= await this.#describe(image, stored)
      const files = read.flatMap((digest) => {
        const one = stored.files(digest)
        return one === undefined ? [] : [{ digest, files: one }]
      })
      return chooseKernels(files, description.binaries)
    }
    let hasKernels = false
    for (const { digest, size } of layers) {
      if (hasKernels && bytes + size > LAYERS_BESIDE_KERNEL_BYTES_MAX) {
        if ((await choose()).isNamed) break
      }
      if (stored.facts(digest) === undefined) {
        const problem = await this.#readLayer(stored, digest, budget)
        if (problem === 'too much') return problem
        if (problem !== undefined) problems.add(problem)
      }
      bytes += size
      read.push(digest)
      const facts = stored.facts(digest)
      if (facts?.problem !== undefined) problems.add(unreadable(digest, facts.problem))
      else if (facts !== undefined && facts.kernels.length > 0) hasKernels = true
    }
    const mayHave = hasKernels || read.some((digest) => stored.hasKernelLink(digest))
    if (!mayHave) return { kernels: [], description: { binaries: [], created: undefined } }
    const { kernels, problems: ofChoice } = await choose()
    for (const problem of ofChoice) problems.add(problem.slice(0, PROBLEM_CHARACTERS_MAX))
    return { kernels, description: description ?? { binaries: [], created: undefined } }
  }

  /** Reads a layer that was not read before. Returns why that failed. */
  async #readLayer(
    stored: StoredLayers,
    digest: Digest,
    budget: ReadBudget,
  ): Promise<string | 'too much' | undefined> {
    const row = stored.row(digest)
    if (row === undefined || row.size > budget.storedBytesLeft) return 'too much'
    if (row.lost) throw new BlobMissingError(`the store lost ${digest}`)
    budget.storedBytesLeft -= row.size
    try {
      stored.add(digest, await readLayerFiles(this.#store, row, budget))
      // The background reads layers that take long.
      if (budget.isLast) await stored.save(this.#db)
      return undefined
    } catch (error) {
      if (!(error instanceof ArchiveError)) throw error
      if (error.readableWith === undefined) {
        stored.addProblem(digest, error.message)
        return undefined
      }
      if (error.readableWith === 'limit' && !budget.isLast) return 'too much'
      return unreadable(digest, error.message)
    }
  }

  async #describe(image: ContainerImage, stored: StoredLayers): Promise<ContainerDescription> {
    const { config } = image.manifest
    const row = config && stored.row(config.digest)
    // The size in the manifest may be wrong, which the push finds later.
    const isReadable = row !== undefined && row.size > 0 && row.size <= CONTAINER_CONFIG_BYTES_MAX
    if (!isReadable) return { binaries: [], created: undefined }
    const chunks: Uint8Array[] = []
    const range = { start: 0, end: row.size - 1 }
    for await (const chunk of withStoreErrors(this.#store.read(row.storageKey, range))) {
      chunks.push(Buffer.from(chunk))
    }
    return describeContainer(image.bytes, Buffer.concat(chunks))
  }

  /** Makes the kernel a blob, and its image. Returns the problem of a file that is no kernel. */
  async #makeImage(
    image: ContainerImage,
    stored: StoredLayers,
    kernel: ContainerKernel,
    { created }: ContainerDescription,
    signal: AbortSignal,
  ): Promise<UnwrappedImage | string> {
    const { repository, actor } = image
    const { layer, path } = kernel
    const row = stored.row(layer)
    if (row === undefined) throw new Error(`${layer} was read, but its row is missing`)
    const digest = await this.#blobs.ensure(repository, actor, kernel, () =>
      kernelBytes(this.#store, row, kernel, signal),
    )
    if (kernel.digest === undefined) stored.addDigest(layer, kernel, digest)
    const bytes = unwrappedManifest({ ...image, size: image.bytes.length }, kernel, digest, created)
    const manifest = parseManifest(bytes, undefined)
    try {
      const reading = await this.#analyzer.analyze(repository, manifest, actor.name)
      return { digest: digestOf(bytes), bytes, manifest, reading, layer }
    } catch (error) {
      if (!(error instanceof RegistryError) || error.code !== 'MANIFEST_INVALID') throw error
      return `/${path} is not a kernel: ${error.message}`.slice(0, PROBLEM_CHARACTERS_MAX)
    }
  }
}

const PROBLEM_CHARACTERS_MAX = 400

function unreadable(layer: Digest, problem: string): string {
  return `the layer ${layer} cannot be read: ${problem}`.slice(0, PROBLEM_CHARACTERS_MAX)
}
