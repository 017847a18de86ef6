import { findNamedRepositories } from '../../db/builds/job-names.ts'
import type { Database, Queryable } from '../../db/database.ts'
import { parseRepository, type Repository } from '../../oci/reference.ts'

/** Replaces each slash in the name of a job: no name of a repository has it. */
const SLASH = '~'

/** The names of jobs that the operator gave to repositories. */
export type JobNames = ReadonlyMap<string, Repository>

/** A repository, and whether its last component was the name of another first. */
export type NamedRepository = {
  readonly repository: Repository
  readonly repositoryId: number
  /** The repository that had the last component first; null when none had. */
  readonly first: Repository | null
  readonly since: number | null
}

/**
 * Translates between the jobs of builder and repositories. A name means, in this order: the repository that a setting names;
 * with `~` in it, exactly one repository; the older of the repository with this name and of the first public one whose name
 * ends with it.
 */
export class Jobs {
  readonly #db: Database
  readonly #named: JobNames
  readonly #names: ReadonlyMap<Repository, string>

  constructor(db: Database, named: JobNames) {
    this.#db = db
    this.#named = named
    this.#names = new Map([...named].map(([name, repository]) => [repository, name]))
  }

  /**
   * Returns the repository of a job, which need not exist. A private repository with exactly this name counts when the caller
   * `mayUse` it. Throws NAME_INVALID for a name that no repository can have.
   */
  async resolve(
    name: string,
    mayUse: (repository: Repository) => boolean,
    db: Queryable = this.#db,
  ): Promise<Repository> {
    const given = this.#named.get(name)
    if (given !== undefined) return given
    if (name.includes(SLASH)) return parseRepository(nameWithSlashes(name))
    const exact = parseRepository(name)
    const view = { repository: exact, publicOnly: !mayUse(exact) }
    const { first, since, exactId } = await findNamedRepositories(db, view)
    if (first === null || since === null) return exact
    return exactId !== null && exactId < since ? exact : first
  }

  /**
   * Returns the name of a repository's job. Everybody who may see the repository finds it by this name, now and later:
   * `web~site` for `web/site`.
   */
  nameOf({ repository, repositoryId, first, since }: NamedRepository): string {
    const given = this.#names.get(repository)
    if (given !== undefined) return given
    if (repository.includes('/')) return repository.replaceAll('/', SLASH)
    const isTaken = first !== null && first !== repository && since !== null && repositoryId > since
    // A setting gives the name to another repository.
    const isGiven = this.#named.has(repository)
    return isTaken || isGiven ? `${SLASH}${repository}` : repository
  }
}

function nameWithSlashes(name: string): string {
  const [first = '', ...others] = name.split(SLASH)
  return first === '' ? others.join('/') : [first, ...others].join('/')
}
