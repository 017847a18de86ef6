import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { parseDigest } from '../../oci/digest.ts'
import { type Command, CommandError, STATUS } from '../command.ts'
import { columns, printJson, printLines, visible } from '../printing.ts'
import type { ListedHit, ListedImage } from './api-types.ts'
import {
  parseLimit,
  parseNamedRegistry,
  queryOf,
  repositoryPath,
  shortDigest,
  withApi,
} from './registry-api.ts'
import { parseWords } from './registry-commands.ts'
import { LOGIN_OPTIONS, LOGIN_USAGE, parseNamedImage } from './registry-login.ts'

const JSON_OPTION = { json: { type: 'boolean', default: false } } as const
// What looks like one is no file.
const DIGEST = /^sha(?:256|512):/
const LIMIT_OPTION = { limit: { type: 'string' } } as const

const imagesCommand: Command = {
  words: ['images'],
  usage: `HOST/REPOSITORY [--target hvt|spt|…] [--abi N] [--arch NAME] [--device KIND|NAME|KIND:NAME] [--builder NAME] [--limit N] ${LOGIN_USAGE} [--json]`,
  summary: 'List the unikernels of a repository, the newest first',
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      {
        target: { type: 'string' },
        abi: { type: 'string' },
        arch: { type: 'string' },
        device: { type: 'string' },
        builder: { type: 'string' },
        ...LIMIT_OPTION,
        ...JSON_OPTION,
        ...LOGIN_OPTIONS,
      },
      { least: 1, most: 1, expected: 'HOST/REPOSITORY' },
    )
    const limit = parseLimit(values.limit)
    const named = () => parseNamedImage(positionals[0] ?? '', values)
    return withApi(named, values, environment, async (api, image) => {
      const { target, abi, arch, device, builder } = values
      const query = queryOf({ target, abi, arch, device, builder })
      const path = repositoryPath(image, `images${query}`)
      const images = await api.list(path, 'images', 'the list of images', limit)
      if (values.json) printJson({ images })
      else printImages(images as ListedImage[])
      return STATUS.ok
    })
  },
}

const kernelCommand: Command = {
  words: ['kernel'],
  usage: `HOST FILE|DIGEST [--limit N] ${LOGIN_USAGE} [--json]`,
  summary: 'Tell which images and tags of a registry have a kernel, such as the one that runs here',
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      { ...LIMIT_OPTION, ...JSON_OPTION, ...LOGIN_OPTIONS },
      { least: 2, most: 2, expected: 'HOST and a kernel or its digest' },
    )
    const limit = parseLimit(values.limit)
    const [host = '', kernel = ''] = positionals
    const named = () => parseNamedRegistry(host, values)
    return withApi(named, values, environment, async (api) => {
      const digest = DIGEST.test(kernel) ? parseDigest(kernel) : await digestOfFile(kernel)
      const images = await api.list(`/api/v1/kernels/${digest}`, 'images', 'the kernel', limit)
      if (values.json) printJson({ kernel: digest, images })
      else printImages(images as ListedImage[])
      // A host asks by this whether anybody knows what it runs.
      return images.length > 0 ? STATUS.ok : STATUS.found
    })
  },
}

type Reproductions = {
  readonly outputs: readonly { readonly kernel: string; readonly images: ListedImage[] }[]
  readonly otherInputs: readonly ListedImage[]
  readonly more: boolean
}

const inputsCommand: Command = {
  words: ['inputs'],
  usage: `HOST INPUT_ID ${LOGIN_USAGE} [--json]`,
  summary: 'Tell what was built from the same inputs, and whether the same came out of it',
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      { ...JSON_OPTION, ...LOGIN_OPTIONS },
      { least: 2, most: 2, expected: 'HOST and an input id' },
    )
    const [host = '', inputId = ''] = positionals
    const named = () => parseNamedRegistry(host, values)
    return withApi(named, values, environment, async (api) => {
      const path = `/api/v1/inputs/${encodeURIComponent(inputId)}`
      const found = (await api.find(path, 'the input id')) as Reproductions
      if (values.json) printJson(found)
      else printReproductions(found)
      // As a rebuilder asks: the same inputs made one kernel.
      return found.outputs.length > 1 ? STATUS.found : STATUS.ok
    })
  },
}

const packagesCommand: Command = {
  words: ['packages'],
  usage: `HOST opam|deb|apk|freebsd/NAME [CONSTRAINT] [--limit N] ${LOGIN_USAGE} [--json]`,
  summary:
    "List images, tags and versions that contain a package, such as opam/tls '>= 0.17 & < 1'",
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      { ...LIMIT_OPTION, ...JSON_OPTION, ...LOGIN_OPTIONS },
      { least: 2, most: 3, expected: 'HOST, a package such as opam/tls, and perhaps a constraint' },
    )
    const limit = parseLimit(values.limit)
    const [host = '', wanted = '', version] = positionals
    const named = () => parseNamedRegistry(host, values)
    return withApi(named, values, environment, async (api) => {
      const slash = wanted.indexOf('/')
      if (slash <= 0) throw new CommandError(`a package is like opam/tls, not ${visible(wanted)}`)
      const name = encodeURIComponent(wanted.slice(slash + 1))
      const ecosystem = encodeURIComponent(wanted.slice(0, slash))
      const path = `/api/v1/packages/${ecosystem}/${name}${queryOf({ version })}`
      const images = await api.list(path, 'images', `the package ${visible(wanted)}`, limit)
      if (values.json) printJson({ images })
      else printHits(images as ListedHit[])
      return STATUS.ok
    })
  },
}

/** Questions about the images of a registry. */
export const askingCommands: readonly Command[] = [
  imagesCommand,
  kernelCommand,
  inputsCommand,
  packagesCommand,
]

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new CommandError(`${visible(path)} is no digest, and cannot be read: ${reason}`, {
      cause,
    })
  }
  return `sha256:${hash.digest('hex')}`
}

function printImages(images: readonly ListedImage[]): void {
  const rows = images.map((image) => [
    image.repository,
    image.tags.join(',') || '-',
    shortDigest(image.digest),
    image.target,
    image.devices.map(({ kind, name }) => `${kind}:${name}`).join(',') || '-',
    image.builder,
    image.pushedAt.slice(0, 16),
  ])
  const headings = ['REPOSITORY', 'TAGS', 'DIGEST', 'TARGET', 'DEVICES', 'BUILDER', 'PUSHED']
  printLines(rows.length === 0 ? ['There are none.'] : columns(headings, rows))
}

function printHits(hits: readonly ListedHit[]): void {
  const rows = hits.map((hit) => [
    hit.repository,
    hit.tags.join(',') || '-',
    shortDigest(hit.digest),
    hit.version ?? 'unknown',
    hit.target,
    hit.pushedAt.slice(0, 16),
  ])
  const headings = ['REPOSITORY', 'TAGS', 'DIGEST', 'VERSION', 'TARGET', 'PUSHED']
  printLines(rows.length === 0 ? ['There are none.'] : columns(headings, rows))
}

function printReproductions({ outputs, otherInputs, more }: Reproductions): void {
  if (outputs.length === 0) printLines(['Nothing here was built from these inputs.'])
  for (const { kernel, images } of outputs) {
    printLines([`kernel ${kernel}`])
    printImages(images)
  }
  if (outputs.length > 1) printLines(['The same inputs made different kernels: not reproducible.'])
  if (otherInputs.length > 0) {
    printLines(['The same kernel from other inputs:'])
    printImages(otherInputs)
  }
  if (more) printLines(['There are more than these.'])
}
