import { Readable } from 'node:stream'
import { findBuild } from '../../db/builds/builds.ts'
import { hasLaterBuild } from '../../db/builds/latest-builds.ts'
import type { Database } from '../../db/database.ts'
import { findRepository } from '../../db/registry/repositories.ts'
import { conflict } from '../../oci/errors.ts'
import type { MediaType } from '../../oci/media-type.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import {
  type BuiltFile,
  execManifest,
  findMainBinary,
  hasSucceeded,
} from '../../unikernel/exec/plan.ts'
import {
  type ExecHead,
  type ExecOutput,
  execPrefix,
  outputPrefix,
} from '../../unikernel/exec/read-exec.ts'
import { OTHER_FILE } from '../../unikernel/format.ts'
import type { ImageAnalyzer } from '../images/analyzer.ts'
import type { Destination, ImageBuilder, StoreFile } from '../images/builder.ts'
import type { PushedManifest } from '../manifests.ts'
import type { UploadBody } from '../uploads/hash-stream.ts'

/** Where a build goes, and who sends it. */
export type ExecDestination = Pick<Destination, 'repository' | 'actor' | 'bounds'> & {
  /** The tag of its platform. */
  readonly tag: Tag
}

/** Takes the builds that builder sends. */
export class ExecUploads {
  readonly #db: Database
  readonly #builder: ImageBuilder
  readonly #analyzer: ImageAnalyzer

  constructor(db: Database, builder: ImageBuilder, analyzer: ImageAnalyzer) {
    this.#db = db
    this.#builder = builder
    this.#analyzer = analyzer
  }

  /** Throws CONFLICT when the repository has a build with this id. */
  async assertNew(repository: Repository, uuid: string): Promise<void> {
    const repositoryId = await findRepository(this.#db, { repository, publicOnly: false })
    if (repositoryId === undefined) return
    if ((await findBuild(this.#db, repositoryId, uuid)) === undefined) return
    throw conflict(`the repository ${repository} has the build ${uuid} already`)
  }

  /**
   * Stores the outputs of a build while they arrive, and then its manifest: an image, something else that was built, or the
   * report of a failure. The tag moves to a build that succeeded, unless a later one is there. Throws as
   * `ImageBuilder.buildFromFiles`, what `outputs` throws, and CONFLICT for an id that the repository has.
   */
  async upload(
    { repository, actor, bounds, tag }: ExecDestination,
    head: ExecHead,
    outputs: AsyncIterable<ExecOutput>,
  ): Promise<PushedManifest> {
    const destination = {
      ...{ repository, actor, bounds, buildId: head.uuid },
      precondition: { kind: 'none' },
    } as const
    return this.#builder.buildFromFiles(destination, async (store) => {
      const files: BuiltFile[] = []
      for await (const output of outputs) {
        const stored = await store(bodyOf(output.bytes(), output.size))
        files.push({ path: output.path, ...stored })
      }
      const isTagged = hasSucceeded(head, files) && !(await this.#isOlder(repository, head))
      const manifest = await this.#manifestOf(repository, head, files, store)
      return { manifest, tags: isTagged ? [tag] : [] }
    })
  }

  async #manifestOf(
    repository: Repository,
    head: ExecHead,
    outputs: readonly BuiltFile[],
    store: StoreFile,
  ): Promise<Uint8Array> {
    const main = findMainBinary(outputs)
    const hasKernel =
      main !== undefined &&
      (await this.#analyzer.isKernel(repository, {
        ...{ digest: main.digest, size: main.size, title: main.path },
        mediaType: OTHER_FILE as MediaType,
      }))
    const console = await store(bodyOf(head.console.text()))
    const script = await store(bodyOf(Readable.from([head.script]), head.script.length))
    const record = await store(bodyOf(Readable.from(recordOf(head, outputs))))
    return execManifest({ head, outputs, hasKernel, console, script, record })
  }

  /** True when the platform has a build that began later. */
  async #isOlder(repository: Repository, { platform, startedAt }: ExecHead): Promise<boolean> {
    const repositoryId = await findRepository(this.#db, { repository, publicOnly: false })
    return (
      repositoryId !== undefined &&
      platform !== undefined &&
      hasLaterBuild(this.#db, repositoryId, platform, startedAt)
    )
  }
}

/** Returns the exec with the digest of each file in place of its bytes. */
function recordOf({ der }: ExecHead, outputs: readonly BuiltFile[]): Uint8Array[] {
  const entries = outputs.flatMap(({ path, digest }) => [
    outputPrefix(path, digest.length),
    Buffer.from(digest),
  ])
  const size = entries.reduce((sum, { length }) => sum + length, 0)
  return [execPrefix(der, size), ...entries]
}

function bodyOf(bytes: AsyncIterable<Uint8Array>, length?: number): UploadBody {
  return { bytes, start: undefined, length }
}
