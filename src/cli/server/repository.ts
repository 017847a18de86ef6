import { parseTagGlob } from '../../oci/glob.ts'
import { parseRepository } from '../../oci/reference.ts'
import { Repositories, type RepositorySettings } from '../../registry/repositories.ts'
import { argument, choice, command, flag, JSON_OPTION, list } from '../command.ts'
import { confirm } from '../confirm.ts'
import { STATUS, UsageError } from '../errors.ts'
import { printJson, printResult, printTable, utcText } from '../printing.ts'
import { listAll, OPERATOR, withRegistry } from './operator.ts'

const REPOSITORY = { repository: argument('REPOSITORY', 'repository, such as builds/www') }

export const showCommand = command({
  arguments: REPOSITORY,
  options: JSON_OPTION,
  examples: [['rookery repository show builds/www', 'show the settings of one repository']],
  async run({ repository, json }, environment) {
    return withRegistry(environment, async ({ db }, config) => {
      const repositories = new Repositories(db, config.defaultVisibility)
      const settings = await repositories.settings(parseRepository(repository))
      printResult(json, settings, linesOf(settings))
      return STATUS.ok
    })
  },
})

export const setCommand = command({
  arguments: REPOSITORY,
  options: {
    visibility: choice('VISIBILITY', ['public', 'private'], 'whether anyone may pull'),
    immutable: list('GLOB', "tags that cannot be moved or deleted, such as 'v*'"),
    mutable: flag('make all tags mutable'),
    provenance: choice(
      'RULE',
      ['optional', 'required'],
      'whether an image without provenance is refused',
    ),
    ...JSON_OPTION,
  },
  notes: 'Works before the first push as well.',
  examples: [
    [
      "rookery repository set builds/www --visibility private --immutable 'v*'",
      'hide it from anonymous clients, and fix version tags',
    ],
    ['rookery repository set builds/www --provenance required', 'refuse images without provenance'],
  ],
  async run({ repository, visibility, immutable, mutable, provenance, json }, environment) {
    if (mutable && immutable !== undefined) {
      throw new UsageError('--immutable and --mutable exclude each other')
    }
    if (!mutable && [visibility, provenance, immutable].every((one) => one === undefined)) {
      throw new UsageError(
        'nothing to set: give --visibility, --immutable, --mutable or --provenance',
      )
    }
    return withRegistry(environment, async ({ db }, config) => {
      const repositories = new Repositories(db, config.defaultVisibility)
      const immutableTags = mutable ? [] : immutable?.map(parseTagGlob)
      const change = {
        ...(visibility === undefined ? {} : { visibility }),
        ...(immutableTags === undefined ? {} : { immutableTags }),
        ...(provenance === undefined ? {} : { provenance }),
      }
      const settings = await repositories.change(parseRepository(repository), change, OPERATOR)
      printResult(json, settings, linesOf(settings))
      return STATUS.ok
    })
  },
})

export const listCommand = command({
  options: JSON_OPTION,
  examples: [['rookery repository list', 'list all repositories']],
  async run({ json }, environment) {
    return withRegistry(environment, async ({ db }, config) => {
      const settings = new Repositories(db, config.defaultVisibility)
      const repositories = await listAll((last, limit) => settings.list(last, limit))
      if (json) printJson({ repositories })
      else printTable(HEADINGS, repositories.map(cellsOf))
      return STATUS.ok
    })
  },
})

export const deleteCommand = command({
  arguments: REPOSITORY,
  options: {
    yes: flag('delete without a question'),
    ...JSON_OPTION,
  },
  notes:
    'Deletes its tags, images, settings, histories and upload URLs. Nobody can undo this. A repository with immutable tags is refused: make them mutable first. Garbage collection frees the space.',
  examples: [['rookery repository delete builds/old', 'delete a repository with its content']],
  async run({ repository, yes, json }, environment) {
    return withRegistry(environment, async ({ db }, config) => {
      const repositories = new Repositories(db, config.defaultVisibility)
      const { name } = await repositories.settings(parseRepository(repository))
      await confirm(`Delete the repository ${name} with all of its tags and images?`, yes)
      await repositories.remove(name, OPERATOR)
      printResult(json, { deleted: name }, [`Deleted the repository ${name} with its content.`])
      return STATUS.ok
    })
  },
})

function linesOf(settings: RepositorySettings): string[] {
  return [
    `repository      ${settings.name}`,
    `visibility      ${settings.visibility}`,
    `immutable tags  ${immutableText(settings)}`,
    `provenance      ${settings.provenance}`,
    `created         ${utcText(settings.createdAt)}`,
  ]
}

const HEADINGS = ['REPOSITORY', 'VISIBILITY', 'IMMUTABLE TAGS', 'PROVENANCE', 'CREATED']

function cellsOf(one: RepositorySettings): string[] {
  const { name, visibility, provenance, createdAt } = one
  return [name, visibility, immutableText(one), provenance, utcText(createdAt)]
}

function immutableText({ immutableTags }: RepositorySettings): string {
  return immutableTags.length === 0 ? 'none' : immutableTags.join(',')
}
