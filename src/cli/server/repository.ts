import { parseTagGlob } from '../../oci/glob.ts'
import { parseRepository } from '../../oci/reference.ts'
import { Repositories, type RepositorySettings } from '../../registry/repositories.ts'
import { type Command, parseArguments, parseOptions, STATUS, UsageError } from '../command.ts'
import { columns, printJson, printLines, utcText } from '../printing.ts'
import { allNamed, listOf, OPERATOR, withRegistry } from './operator.ts'

const showCommand: Command = {
  words: ['repository', 'show'],
  usage: 'REPOSITORY [--json]',
  summary: 'Show who may pull from a repository, and which of its tags never move',
  async run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      { json: { type: 'boolean', default: false } },
      ['REPOSITORY'],
    )
    return withRegistry(environment, async ({ db }, config) => {
      const repositories = new Repositories(db, config.defaultVisibility)
      print(values.json, await repositories.settings(parseRepository(positionals[0] ?? '')))
      return STATUS.ok
    })
  },
}

const setCommand: Command = {
  words: ['repository', 'set'],
  usage:
    'REPOSITORY [--visibility public|private] [--immutable TAG_GLOB... | --mutable] ' +
    '[--provenance optional|required] [--json]',
  summary: 'Change who may pull, which tags never move, or what an image must bring',
  async run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      {
        visibility: { type: 'string' },
        immutable: { type: 'string', multiple: true },
        mutable: { type: 'boolean', default: false },
        provenance: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
      ['REPOSITORY'],
    )
    const patterns = listOf(values.immutable)
    if (values.mutable && patterns !== undefined) {
      throw new UsageError('--immutable and --mutable contradict each other')
    }
    const visibility = parseVisibility(values.visibility)
    const provenance = parseProvenance(values.provenance)
    const said = [visibility, provenance, patterns].some((one) => one !== undefined)
    if (!values.mutable && !said) {
      throw new UsageError(
        'nothing to set: say --visibility, --immutable, --mutable or --provenance',
      )
    }
    return withRegistry(environment, async ({ db }, config) => {
      const repositories = new Repositories(db, config.defaultVisibility)
      const immutableTags = values.mutable ? [] : patterns?.map(parseTagGlob)
      const change = {
        ...(visibility === undefined ? {} : { visibility }),
        ...(immutableTags === undefined ? {} : { immutableTags }),
        ...(provenance === undefined ? {} : { provenance }),
      }
      const repository = parseRepository(positionals[0] ?? '')
      print(values.json, await repositories.change(repository, change, OPERATOR))
      return STATUS.ok
    })
  },
}

const listCommand: Command = {
  words: ['repository', 'list'],
  usage: '[--json]',
  summary: 'List all repositories, also the private ones, with their settings',
  async run(args, environment) {
    const { json } = parseOptions(args, { json: { type: 'boolean', default: false } })
    return withRegistry(environment, async ({ db }, config) => {
      const settings = new Repositories(db, config.defaultVisibility)
      const repositories = await allNamed((last, limit) => settings.list(last, limit))
      if (json) printJson({ repositories })
      else printLines(repositories.length === 0 ? ['There are none.'] : tableOf(repositories))
      return STATUS.ok
    })
  },
}

/** Settings of repositories on the command line. */
export const repositoryCommands: readonly Command[] = [showCommand, setCommand, listCommand]

function parseVisibility(text: string | undefined): RepositorySettings['visibility'] | undefined {
  if (text === undefined || text === 'public' || text === 'private') return text
  throw new UsageError(`--visibility must be public or private, not "${text}"`)
}

function parseProvenance(text: string | undefined): RepositorySettings['provenance'] | undefined {
  if (text === undefined || text === 'optional' || text === 'required') return text
  throw new UsageError(`--provenance must be optional or required, not "${text}"`)
}

function print(json: boolean, settings: RepositorySettings): void {
  if (json) {
    printJson(settings)
    return
  }
  printLines([
    `repository      ${settings.name}`,
    `visibility      ${settings.visibility}`,
    `immutable tags  ${immutableText(settings)}`,
    `provenance      ${settings.provenance}`,
    `created         ${utcText(settings.createdAt)}`,
  ])
}

function tableOf(repositories: readonly RepositorySettings[]): string[] {
  const rows = repositories.map((one) => [
    one.name,
    one.visibility,
    immutableText(one),
    one.provenance,
    utcText(one.createdAt),
  ])
  return columns(['REPOSITORY', 'VISIBILITY', 'IMMUTABLE TAGS', 'PROVENANCE', 'CREATED'], rows)
}

function immutableText({ immutableTags }: RepositorySettings): string {
  return immutableTags.length === 0 ? 'none' : immutableTags.join(',')
}
