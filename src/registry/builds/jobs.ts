import { findNamedRepositories, markFollowed } from '../../db/builds/job-names.ts'
import type { Database, Queryable } from '../../db/database.ts'
import { parseRepository, type Repository } from '../../oci/reference.ts'

/** Replaces each slash in the name of a job: no name of a repository has it. */
const SLASH = '~'

/** The names of jobs that the operator gave to repositories. */
export type JobNames = ReadonlyMap<string, Repository>

/** A repository, and the one whose last component is the name of its job; null when none is. */
export type NamedRepository = {
  readonly repository: Repository
  readonly first: Repository | null
}

/**
 * Translates between the jobs of builder and repositories. A name means, in this order: the repository that a setting names;
 * with `~` in it, exactly one repository; the public one that had the first build among those whose name ends with it.
 * For a caller with a right of his own, a private repository with exactly this name comes before it when its builds are older.
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
    return (await this.#resolve(name, mayUse, db)).repository
  }

  /** Returns the repository of a job to a reader, who may follow the name from now on. Throws as `resolve`. */
  async follow(
    name: string,
    mayUse: (repository: Repository) => boolean,
    db: Queryable = this.#db,
  ): Promise<Repository> {
    const { repository, unfollowed } = await this.#resolve(name, mayUse, db)
    // Once for each name. Before the answer: a name whose followers nobody knows is free when its repository is deleted.
    if (unfollowed !== undefined) await markFollowed(this.#db, unfollowed)
    return repository
  }

  async #resolve(
    name: string,
    mayUse: (repository: Repository) => boolean,
    db: Queryable,
  ): Promise<{ readonly repository: Repository; readonly unfollowed?: string }> {
    const given = this.#named.get(name)
    if (given !== undefined) return { repository: given }
    if (name.includes(SLASH)) return { repository: parseRepository(nameWithSlashes(name)) }
    const exact = parseRepository(name)
    const view = { repository: exact, publicOnly: !mayUse(exact) }
    const { first, followed, isExactOlder } = await findNamedRepositories(db, view)
    if (first === null || isExactOlder) return { repository: exact }
    return { repository: first, ...(followed === false ? { unfollowed: name } : {}) }
  }

  /**
   * Returns the name of a repository's job. Everybody who may see the repository finds it by this name, now and later:
   * `web~site` for `web/site`.
   */
  nameOf({ repository, first }: NamedRepository): string {
    const given = this.#names.get(repository)
    if (given !== undefined) return given
    if (repository.includes('/')) return repository.replaceAll('/', SLASH)
    // Also when its builds are older: it was private then, and others know the name as that of `first`.
    const isTaken = first !== null && first !== repository
    // A setting gives the name to another repository.
    const isGiven = this.#named.has(repository)
    return isTaken || isGiven ? `${SLASH}${repository}` : repository
  }
}

function nameWithSlashes(name: string): string {
  const [first = '', ...others] = name.split(SLASH)
  return first === '' ? others.join('/') : [first, ...others].join('/')
}
