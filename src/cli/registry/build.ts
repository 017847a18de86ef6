import { isUuidInAnyCase } from '../../oci/uuid.ts'
import { BUILD_CLAIMS, FAILED_RESULTS } from '../../unikernel/build-claims.ts'
import { isTime } from '../../unikernel/time.ts'
import {
  argument,
  choice,
  command,
  describeDefault,
  flag,
  JSON_OPTION,
  optionalArgument,
  parsed,
  value,
} from '../command.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { LIMIT_OPTION, MORE_LINE } from '../numbers.ts'
import { printJson, printLines, printResult, printTable, utcText, visible } from '../printing.ts'
import { queryOf, repositoryPath, shortDigest, withImageApi } from './api-client.ts'
import type { ListedBuild } from './api-types.ts'
import { withClientErrors } from './client-errors.ts'
import { reportFailedBuild } from './failed-build.ts'
import { hiddenLines, nameText } from './hidden-names.ts'
import { LOGIN_OPTIONS, parseNamedImage, readReference } from './login-options.ts'
import { listBuildFiles, type OrbFile } from './orb-folder.ts'

const REPOSITORY = argument('HOST/REPOSITORY', 'repository')
const BUILD = argument('BUILD', 'id of the build')
const RESULTS = ['succeeded', ...FAILED_RESULTS] as const

/** `rookery build list`: who built what in a repository. */
export const listCommand = command({
  arguments: { repository: REPOSITORY },
  options: {
    platform: value('NAME', 'platform, such as debian-12'),
    result: choice('RESULT', RESULTS, 'result of the build'),
    builder: value('NAME', 'credential that pushed or reported the build'),
    input: value('INPUT-ID', 'inputs of the build'),
    ...LIMIT_OPTION,
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  examples: [
    ['rookery build list registry.example.org/builds/www', 'list all builds, newest first'],
    ['rookery build list registry.example.org/builds/www --result failed', 'list the failed ones'],
  ],
  run(values, environment) {
    return withImageApi(values.repository, values, environment, async (api, image) => {
      const { platform, result, builder, input, limit, json } = values
      const path = repositoryPath(image, `builds${queryOf({ platform, result, builder, input })}`)
      const { items, more } = await api.listUpTo(path, 'builds', 'the list of builds', limit)
      if (json) printJson({ builds: items, more })
      else printBuilds(items as ListedBuild[])
      if (!json && more) printLines([MORE_LINE])
      return STATUS.ok
    })
  },
})

/** `rookery build show`: one build. */
export const showCommand = command({
  arguments: { repository: REPOSITORY, build: BUILD },
  options: { ...JSON_OPTION, ...LOGIN_OPTIONS },
  examples: [
    [
      'rookery build show registry.example.org/builds/www 0268b383-13ae-4a1f-b33c-1bcd327c1d41',
      'show its result, times, inputs and image',
    ],
  ],
  run(values, environment) {
    return withImageApi(values.repository, values, environment, async (api, image) => {
      const path = repositoryPath(image, `builds/${buildId(values.build)}`)
      const build = (await api.find(path, 'the build')) as ListedBuild
      printResult(values.json, build, linesOf(build))
      return STATUS.ok
    })
  },
})

/** `rookery build log`: the console of a build. */
export const logCommand = command({
  arguments: { repository: REPOSITORY, build: BUILD },
  options: {
    script: flag('print the script instead of the console'),
    readme: flag('print the README instead of the console'),
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes: 'Control characters are shown escaped, so that a console cannot change the terminal.',
  examples: [
    [
      'rookery build log registry.example.org/builds/www 0268b383-13ae-4a1f-b33c-1bcd327c1d41',
      'print its console',
    ],
  ],
  run(values, environment) {
    return withImageApi(values.repository, values, environment, async (api, image) => {
      const { script, readme } = values
      if (script && readme) throw new UsageError('give --script or --readme, not both')
      const file = script ? 'script' : readme ? 'readme' : 'console'
      const path = repositoryPath(image, `builds/${buildId(values.build)}/${file}`)
      const text = await api.findText(path, `the ${file} of the build`)
      const lines = text.replace(/\r?\n$/, '').split(/\r?\n/)
      printResult(values.json, { file, text }, lines.map(visible))
      return STATUS.ok
    })
  },
})

/** `rookery build report`: a failed build, with what is left of it. */
export const reportCommand = command({
  arguments: { repository: REPOSITORY, folder: optionalArgument('DIR', "orb's output folder") },
  options: {
    console: value('FILE', 'console output of the build'),
    script: value('FILE', 'build script'),
    result: describeDefault(choice('RESULT', FAILED_RESULTS, 'how the build ended'), 'failed'),
    exitCode: value('N', 'exit code, with the result failed'),
    signal: value('N', 'number of the signal, with the result signalled'),
    message: value('TEXT', 'reason, with the result error'),
    platform: describeDefault(value('NAME', 'platform, such as debian-12'), 'none'),
    started: parsed('TIME', 'start of the build, such as 2026-05-20T12:00:00Z', parseTime),
    finished: parsed('TIME', 'end of the build', parseTime),
    dryRun: flag('print the manifest and report nothing'),
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes: 'The exit status is 0 when the report was stored.',
  examples: [
    [
      'rookery build report registry.example.org/builds/www . --console build.log --exit-code 20',
      "in orb's output folder, after a build that failed",
    ],
  ],
  run(values, environment) {
    return withClientErrors(async () => {
      const named = parseNamedImage(await readReference(values.repository), values)
      if ((named.reference.tag ?? named.reference.digest) !== undefined) {
        throw new UsageError('a failed build has no tag: give HOST/REPOSITORY')
      }
      const files: OrbFile[] = [
        ...(values.folder === undefined ? [] : await listBuildFiles(values.folder)),
        ...filesOf('console', values.console),
        ...filesOf('script', values.script),
      ]
      if (files.length === 0) {
        throw new CommandError('there is nothing to report: give a folder, --console or --script')
      }
      const { dryRun, json } = values
      const annotations = annotationsOf(values)
      const report = { folder: undefined, files, named, annotations, dryRun, json }
      await reportFailedBuild(report, values, environment)
      return STATUS.ok
    })
  },
})

/** Throws UsageError for a text that is no id of a build. */
function buildId(text: string): string {
  if (isUuidInAnyCase(text)) return text
  throw new UsageError(`the id of a build must be a UUID, as rookery build list prints it`)
}

function filesOf(role: 'console' | 'script', path: string | undefined): OrbFile[] {
  return path === undefined ? [] : [{ role, path }]
}

type Claims = Readonly<Partial<Record<keyof typeof BUILD_CLAIMS, string | undefined>>>

function annotationsOf(claims: Claims): Record<string, string> {
  const names = Object.keys(BUILD_CLAIMS) as (keyof typeof BUILD_CLAIMS)[]
  return Object.fromEntries(
    names.flatMap((name) => {
      const text = claims[name]
      return text === undefined ? [] : [[BUILD_CLAIMS[name], text]]
    }),
  )
}

function parseTime(flagName: string, text: string): string {
  if (isTime(text)) return text
  throw new UsageError(`${flagName} must be a time such as 2026-05-20T12:00:00Z`)
}

/** Prints a table of builds. */
export function printBuilds(builds: readonly ListedBuild[]): void {
  printTable(HEADINGS, builds.map(cellsOf))
  printLines(hiddenLines(builds.map(({ builder }) => builder)))
}

const HEADINGS = ['RECORDED', 'BUILD', 'RESULT', 'PLATFORM', 'BUILDER', 'KERNEL', 'INPUTS']
const INPUT_DIGITS_SHOWN = 12

function cellsOf(build: ListedBuild): string[] {
  return [
    utcText(build.recordedAt),
    build.id,
    resultText(build),
    build.platform ?? '-',
    nameText(build.builder),
    build.kernel === null ? '-' : shortDigest(build.kernel.digest),
    build.inputId?.slice(0, INPUT_DIGITS_SHOWN) ?? '-',
  ]
}

/** `failed (20)`, `signalled (9)`, `succeeded`. */
function resultText({ result, exitCode, signal }: ListedBuild): string {
  const number = exitCode ?? signal
  return number === null ? result : `${result} (${number})`
}

function linesOf(build: ListedBuild): string[] {
  const { message, digest, kernel } = build
  const rows: [string, string | null][] = [
    ['build', build.id],
    ['repository', build.repository],
    ['result', resultText(build)],
    ['message', message],
    ['builder', nameText(build.builder)],
    ['platform', build.platform],
    ['started', build.startedAt && utcText(build.startedAt)],
    ['finished', build.finishedAt && utcText(build.finishedAt)],
    ['recorded', utcText(build.recordedAt)],
    ['input id', build.inputId],
    ['kernel', kernel === null ? null : kernel.digest],
    [kernel === null ? 'report' : 'image', digest ?? 'deleted'],
  ]
  const lines = rows.flatMap(([name, text]) =>
    text === null ? [] : [`${name.padEnd(LABEL_WIDTH)}${visible(text)}`],
  )
  return [...lines, ...hiddenLines([build.builder])]
}

const LABEL_WIDTH = 12
