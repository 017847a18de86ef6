import { type BuildRow, findBuild } from '../../db/builds/builds.ts'
import {
  findImageOfBuild,
  findLatestBuild,
  findTaggedKernel,
  type ImageOfBuild,
  type JobBuildRow,
  type ListedBuildRow,
  listJobBuilds,
} from '../../db/builds/latest-builds.ts'
import {
  findBuildAnywhere,
  findFirstOfFile,
  findFirstOfKernel,
  findKernelAmong,
  findLatestOfFile,
  findPublicFirstOfKernel,
  type JobRow,
  listFailedBuilds,
  listJobs,
  type Scope,
} from '../../db/builds/visible-builds.ts'
import type { Database, Queryable } from '../../db/database.ts'
import { resolveVisible } from '../../db/name-patterns.ts'
import { findManifestBytes } from '../../db/registry/manifests.ts'
import { findRepository, type View } from '../../db/registry/repositories.ts'
import type { Digest } from '../../oci/digest.ts'
import { notFound } from '../../oci/errors.ts'
import type { Glob } from '../../oci/glob.ts'
import { type Manifest, parseManifest } from '../../oci/manifest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { EXEC_CONFIG, findRole, type Role } from '../../unikernel/format.ts'

export type { BuildRow, ImageOfBuild, JobBuildRow, JobRow, ListedBuildRow }

/** Builds of one job that a list has; builder-web lists all. */
export const JOB_BUILDS_MAX = 1000
export const JOBS_MAX = 2000

/** A file of a build. */
export type BuildFile = {
  /** Such as `bin/site.hvt`. */
  readonly path: string
  readonly role: Role | undefined
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
}

/** The files of a build, and its exec when builder sent one. */
export type BuildFiles = {
  readonly build: BuildRow
  readonly files: readonly BuildFile[]
  /** Undefined for a build that failed. */
  readonly main: BuildFile | undefined
  /** The digest of the exec with digests in place of files. */
  readonly record: Digest | undefined
}

/** Finds the builds of a registry as builder-web names them: by job, by a hash of a file, and by an id alone. */
export class JobBuilds {
  readonly #db: Database
  readonly #latestTag: Tag | undefined
  readonly #named: readonly Repository[]

  /**
   * `latestTag`: the latest build is the one with the kernel of this tag; undefined: the one that began last. `named`: the
   * repositories that the operator names, to which kernels lead first.
   */
  constructor(db: Database, latestTag: Tag | undefined, named: readonly Repository[]) {
    this.#db = db
    this.#latestTag = latestTag
    this.#named = named
  }

  /**
   * Finds the latest build with a file. A kernel leads to the repository that had it first: among those in which the caller
   * has a right of its own, then among those that the operator names, then to the one where everybody could see it first. When
   * that one is private or deleted by now, the answer is undefined, because anybody may push a copy of a public kernel.
   */
  async findByFile(
    db: Queryable,
    own: readonly Glob[],
    digest: Digest,
  ): Promise<JobBuildRow | undefined> {
    const names = await resolveVisible(db, own)
    if (own.length > 0) {
      const found = await findFirstOfKernel(db, names, digest)
      if (found !== undefined) return latestOfKernel(db, found, digest)
      const file = await findFirstOfFile(db, { names, isPublic: false }, digest)
      if (file !== undefined) return findLatestOfFile(db, file.repositoryId, digest)
    }
    const named = this.#named.length > 0 && (await findKernelAmong(db, this.#named, digest))
    if (named) return latestOfKernel(db, named, digest)
    const first = await findPublicFirstOfKernel(db, digest)
    if (first !== undefined) {
      const { repositoryId } = first
      return repositoryId === null ? undefined : latestOfKernel(db, repositoryId, digest)
    }
    const file = await findFirstOfFile(db, { names, isPublic: true }, digest)
    return file && findLatestOfFile(db, file.repositoryId, digest)
  }

  /** Finds the build with an id that was recorded first; one in a repository of the caller's rights comes before others. */
  async findAnywhere(
    db: Queryable,
    own: readonly Glob[],
    id: string,
  ): Promise<ListedBuildRow | undefined> {
    for (const scope of await scopesOf(db, own)) {
      const build = await findBuildAnywhere(db, scope, id)
      if (build !== undefined) return build
    }
    return undefined
  }

  /** Finds the latest build of a repository, of a platform when one is given. Throws NOT_FOUND. */
  async latest(db: Queryable, view: View, platform: string | undefined): Promise<JobBuildRow> {
    const repositoryId = await idOf(db, view)
    const tag = this.#latestTag
    if (tag === undefined || platform !== undefined) {
      const build = await findLatestBuild(db, repositoryId, { platform })
      if (build !== undefined) return build
      const of = platform === undefined ? '' : ` on ${platform}`
      throw notFound(`no build of this job has succeeded${of}`)
    }
    const kernelDigest = await findTaggedKernel(db, repositoryId, tag)
    const build = kernelDigest && (await findLatestBuild(db, repositoryId, { kernelDigest }))
    if (build === undefined) throw notFound(`no build of this job has the tag ${tag}`)
    return build
  }

  /** Lists the builds of a repository that succeeded, one for each kernel, and with `failed` also the others; latest first. */
  async list(
    db: Queryable,
    view: View,
    platform: string | undefined,
    failed: boolean,
  ): Promise<ListedBuildRow[]> {
    const repositoryId = await idOf(db, view)
    const limit = JOB_BUILDS_MAX
    const seen = new Set<string | null>()
    const all = await listJobBuilds(db, repositoryId, { hasFailed: false, platform }, limit)
    const distinct = all.filter(
      ({ kernelDigest }) => !seen.has(kernelDigest) && seen.add(kernelDigest),
    )
    if (!failed) return distinct
    const others = await listJobBuilds(db, repositoryId, { hasFailed: true, platform }, limit)
    return [...distinct, ...others].toSorted((a, b) => beganAt(b) - beganAt(a))
  }

  /** Lists failed builds in public repositories and those of the caller's rights, latest first. */
  async listFailed(
    db: Queryable,
    own: readonly Glob[],
    platform: string | undefined,
    start: number,
    count: number,
  ): Promise<JobBuildRow[]> {
    return listFailedBuilds(db, await wholeScope(db, own), platform, start, count)
  }

  /** Lists repositories with a build that succeeded after a time, by name. */
  async listJobs(db: Queryable, own: readonly Glob[], after: Date): Promise<JobRow[]> {
    return listJobs(db, await wholeScope(db, own), after, JOBS_MAX)
  }

  /** Finds a build of a repository, with its image. Throws NOT_FOUND. */
  async find(
    view: View,
    id: string,
  ): Promise<{ build: BuildRow; image: ImageOfBuild | undefined }> {
    const repositoryId = await idOf(this.#db, view)
    const build = await this.#find(repositoryId, id)
    return { build, image: await findImageOfBuild(this.#db, repositoryId, build.digest) }
  }

  /** Lists the files of a build. Throws NOT_FOUND. */
  async files(view: View, id: string): Promise<BuildFiles> {
    const repositoryId = await idOf(this.#db, view)
    const build = await this.#find(repositoryId, id)
    const bytes = await findManifestBytes(this.#db, repositoryId, build.digest)
    if (bytes === undefined) throw notFound(`the manifest of build ${id} was deleted`)
    const manifest = parseManifest(bytes, undefined)
    const { config } = manifest
    return {
      build,
      ...filesOf(manifest, build),
      record: config?.mediaType === EXEC_CONFIG ? config.digest : undefined,
    }
  }

  async #find(repositoryId: number, id: string): Promise<BuildRow> {
    const build = await findBuild(this.#db, repositoryId, id)
    if (build === undefined) throw notFound(`the job has no build ${id}`)
    return build
  }
}

/** A job whose repository the caller may not see is one that does not exist. */
async function idOf(db: Queryable, view: View): Promise<number> {
  const repositoryId = await findRepository(db, view)
  if (repositoryId === undefined) throw notFound('there is no such job')
  return repositoryId
}

/** Finds the latest build with a kernel: one whose manifest was deleted when there is no other, because a host runs it. */
async function latestOfKernel(
  db: Queryable,
  repositoryId: number,
  kernelDigest: Digest,
): Promise<JobBuildRow | undefined> {
  return (
    (await findLatestBuild(db, repositoryId, { kernelDigest })) ??
    findLatestBuild(db, repositoryId, { kernelDigest, mayBeDeleted: true })
  )
}

async function wholeScope(db: Queryable, own: readonly Glob[]): Promise<Scope> {
  return { names: await resolveVisible(db, own), isPublic: true }
}

/** First the repositories of the caller's own rights, and then the public ones, too. */
async function scopesOf(db: Queryable, own: readonly Glob[]): Promise<Scope[]> {
  const names = await resolveVisible(db, own)
  const whole = { names, isPublic: true }
  return own.length === 0 ? [whole] : [{ names, isPublic: false }, whole]
}

const beganAt = ({ startedAt, recordedAt }: BuildRow) =>
  Math.min((startedAt ?? recordedAt).getTime(), recordedAt.getTime())

const BINARIES = 'bin/'
/** The console and the script are no files of the build. */
const TEXTS: readonly (Role | undefined)[] = ['console', 'script']

/** Returns the files of a manifest, and its main binary, which has the digest of the kernel. */
function filesOf(
  { layers }: Manifest,
  { kernelDigest }: BuildRow,
): { files: BuildFile[]; main: BuildFile | undefined } {
  const files = layers.flatMap(({ mediaType, title, digest, size }): BuildFile[] => {
    const role = findRole(mediaType, title)
    const path = title ?? role
    return path === undefined || TEXTS.includes(role) ? [] : [{ path, role, digest, size }]
  })
  const same = files.filter(({ digest }) => digest === kernelDigest)
  const found =
    same.find(({ role, path }) => role === 'kernel' || path.startsWith(BINARIES)) ?? same[0]
  if (found === undefined) return { files, main: undefined }
  // Images of other clients name the kernel without its folder.
  const path = found.path.includes('/') ? found.path : `${BINARIES}${found.path}`
  const main = { ...found, path }
  return { files: files.map((file) => (file === found ? main : file)), main }
}
