import {
  type BuildPageRow,
  type ComparedBuild,
  findBuildPage,
  listComparedBuilds,
} from '../../db/builds/build-pages.ts'
import {
  type BuildFilter,
  type BuildPage,
  type BuildRow,
  findBuild,
  listBuilds,
  listBuildsOfInputs,
} from '../../db/builds/builds.ts'
import { findOtherBuild, listPlatformsOf, type OtherBuild } from '../../db/builds/other-builds.ts'
import type { Database, Queryable } from '../../db/database.ts'
import type { VisibleNames } from '../../db/name-patterns.ts'
import { findManifestBytes } from '../../db/registry/manifests.ts'
import { findRepository, type View } from '../../db/registry/repositories.ts'
import type { Digest } from '../../oci/digest.ts'
import { notFound, RegistryError } from '../../oci/errors.ts'
import { parseManifest } from '../../oci/manifest.ts'
import { findRole } from '../../unikernel/format.ts'
import type { Blob, Blobs } from '../blobs.ts'

/** The builds that an image is compared with. */
export const OTHER_BUILDS = ['previous', 'next', 'latest'] as const satisfies OtherBuild[]

export type { BuildFilter, BuildPage, BuildPageRow, BuildRow, ComparedBuild }

/** The files of a build that people read. */
export const TEXT_ROLES = ['console', 'script', 'readme'] as const
export type TextRole = (typeof TEXT_ROLES)[number]

export const BUILDS_OF_INPUTS_MAX = 200
const NEWEST = Number.MAX_SAFE_INTEGER

/** Lists and finds builds, and their files. */
export class Builds {
  readonly #db: Database
  readonly #blobs: Blobs

  constructor(db: Database, blobs: Blobs) {
    this.#db = db
    this.#blobs = blobs
  }

  /** Lists builds of a repository, newest first; `next` is the cursor of the next page. Throws NAME_UNKNOWN. */
  async list(
    db: Queryable,
    view: View,
    filter: BuildFilter,
    before: number | undefined,
    limit: number,
  ): Promise<BuildPage> {
    const repositoryId = await idOf(db, view)
    if (limit === 0) return { builds: [], next: undefined }
    return listBuilds(db, repositoryId, filter, before ?? NEWEST, limit)
  }

  /** Lists builds with what others got from the same inputs, newest first. Throws NAME_UNKNOWN. */
  async compared(
    db: Queryable,
    view: View,
    before: number | undefined,
    limit: number,
  ): Promise<{ readonly builds: readonly ComparedBuild[]; readonly next: number | undefined }> {
    const rows = await listComparedBuilds(db, await idOf(db, view), before ?? NEWEST, limit + 1)
    const builds = rows.slice(0, limit)
    return { builds, next: rows.length > limit ? builds.at(-1)?.position : undefined }
  }

  /** Finds a build for its page, with the files that people read. Throws NAME_UNKNOWN, NOT_FOUND. */
  async page(
    db: Queryable,
    view: View,
    id: string,
  ): Promise<
    BuildPageRow & {
      readonly texts: readonly { readonly role: TextRole; readonly digest: Digest }[]
    }
  > {
    const found = await findBuildPage(db, view, id)
    if (found === undefined) throw noBuild(id)
    const layers = found.manifest === null ? [] : parseManifest(found.manifest, undefined).layers
    const texts = TEXT_ROLES.flatMap((role) => {
      const layer = layers.find(({ mediaType, title }) => findRole(mediaType, title) === role)
      return layer === undefined ? [] : [{ role, digest: layer.digest }]
    })
    return { ...found, texts }
  }

  /** Lists builds from these inputs in public repositories and those of `visible`, newest first. */
  listByInputs(db: Queryable, inputId: string, visible: VisibleNames): Promise<BuildPage> {
    return listBuildsOfInputs(db, inputId, visible, BUILDS_OF_INPUTS_MAX)
  }

  /**
   * Finds the image of another build: on a platform that the image was built on, for its target and processor. `previous`
   * and `next` are the nearest with another kernel. Throws NAME_UNKNOWN, and NOT_FOUND when there is none.
   */
  async findOther(
    db: Queryable,
    view: View,
    { id, digest }: { readonly id: number; readonly digest: Digest },
    which: OtherBuild,
  ): Promise<Digest> {
    const repositoryId = await idOf(db, view)
    const own = await listPlatformsOf(db, repositoryId, digest)
    for (const build of own) {
      const other = await findOtherBuild(db, repositoryId, id, build, which)
      if (other !== undefined) return other
    }
    throw noOther(
      view.repository,
      own.map(({ platform }) => platform),
      which,
    )
  }

  /** Finds a build of a repository by its id. Throws NAME_UNKNOWN, NOT_FOUND. */
  async find(view: View, id: string): Promise<BuildRow> {
    return this.#find(await idOf(this.#db, view), id)
  }

  /** Finds the console, the script or the README of a build. Throws NAME_UNKNOWN, NOT_FOUND, BLOB_UNKNOWN. */
  async findText(view: View, id: string, role: TextRole): Promise<Blob> {
    const repositoryId = await idOf(this.#db, view)
    const build = await this.#find(repositoryId, id)
    const bytes = await findManifestBytes(this.#db, repositoryId, build.digest)
    if (bytes === undefined) throw notFound(`the manifest of build ${id} was deleted`)
    const layer = parseManifest(bytes, undefined).layers.find(
      ({ mediaType, title }) => findRole(mediaType, title) === role,
    )
    if (layer === undefined) throw notFound(`build ${id} was pushed without its ${role}`)
    return this.#blobs.find(view, layer.digest)
  }

  async #find(repositoryId: number, id: string): Promise<BuildRow> {
    const build = await findBuild(this.#db, repositoryId, id)
    if (build === undefined) throw noBuild(id)
    return build
  }
}

function noBuild(id: string): RegistryError {
  return notFound(`the repository has no build ${id}`)
}

async function idOf(db: Queryable, view: View): Promise<number> {
  const repositoryId = await findRepository(db, view)
  if (repositoryId === undefined) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
  return repositoryId
}

function noOther(
  repository: string,
  platforms: readonly (string | null)[],
  which: OtherBuild,
): RegistryError {
  if (platforms.length === 0) {
    return notFound(
      `${repository} has no build of this image, because it was copied there: name the image to compare with`,
    )
  }
  const where = platforms.map((platform) => platform ?? 'an unknown platform').join(' or ')
  const wanted = { previous: 'earlier build', next: 'later build', latest: 'image' }[which]
  return notFound(
    `${repository} has no ${wanted} with another kernel on ${where}, for the same target and processor`,
  )
}
