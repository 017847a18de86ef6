import { isTag, parseRepository, type Repository, type Tag } from '../oci/reference.ts'
import { ConfigError } from './config-error.ts'

/** The settings of the paths of builder-web. */
export type BuilderWebConfig = {
  /** The repositories of jobs whose names differ. */
  readonly jobs: ReadonlyMap<string, Repository>
  /** The tag whose kernel is the latest build. Undefined: the build that began last. */
  readonly latestTag: Tag | undefined
}

type BuilderWebTexts = {
  readonly isOn: boolean
  readonly jobs: string
  readonly latest: string | undefined
}

const JOB = /^[^/~\p{Cc}\s]{1,255}$/u

/** Parses the settings of the paths of builder-web. Undefined when they are off. Throws ConfigError. */
export function parseBuilderWeb({
  isOn,
  jobs,
  latest,
}: BuilderWebTexts): BuilderWebConfig | undefined {
  if (!isOn) {
    if (jobs === '' && latest === undefined) return undefined
    const name = jobs === '' ? 'ROOKERY_BUILDER_WEB_LATEST' : 'ROOKERY_BUILDER_WEB_JOBS'
    throw new ConfigError(`${name} needs ROOKERY_BUILDER_WEB=on`)
  }
  if (latest !== undefined && !isTag(latest)) {
    throw new ConfigError(`ROOKERY_BUILDER_WEB_LATEST must be a tag, not "${latest}"`)
  }
  return { jobs: parseJobs(jobs), latestTag: latest }
}

function parseJobs(text: string): Map<string, Repository> {
  const found = new Map<string, Repository>()
  const repositories = new Set<string>()
  for (const entry of text.split(',').map((part) => part.trim())) {
    if (entry === '') continue
    const equals = entry.indexOf('=')
    const job = entry.slice(0, equals)
    if (equals < 1 || !JOB.test(job)) throw invalidJobs(`"${entry}" must be like site=web/site`)
    const repository = repositoryOf(entry.slice(equals + 1))
    if (found.has(job)) throw invalidJobs(`the job ${job} is there twice`)
    if (repositories.has(repository)) throw invalidJobs(`${repository} has two jobs`)
    repositories.add(repository)
    found.set(job, repository)
  }
  return found
}

function repositoryOf(text: string): Repository {
  try {
    return parseRepository(text)
  } catch (cause) {
    throw invalidJobs(`"${text}" is no repository`, cause)
  }
}

function invalidJobs(problem: string, cause?: unknown): ConfigError {
  return new ConfigError(`ROOKERY_BUILDER_WEB_JOBS: ${problem}`, { cause })
}
