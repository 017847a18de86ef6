import { stat } from 'node:fs/promises'
import {
  formatReference,
  type ImageReference,
  MalformedReferenceError,
} from '../../client/image-reference.ts'
import type { ImageSource } from '../../client/image-source.ts'
import { compareSourceHash, readSourceImage, verifyBlob } from '../../client/image-source.ts'
import { type RemoteManifest, RemoteRepository } from '../../client/remote-repository.ts'
import { RegistryError } from '../../oci/errors.ts'
import { type Child, type Manifest, parseManifest } from '../../oci/manifest.ts'
import { assertBuildHash, validateChild, validateImage } from '../../unikernel/validation.ts'
import { type Command, CommandError, STATUS, UsageError } from '../command.ts'
import { printJson, printLines, visible } from '../printing.ts'
import { type Inspected, imageJson, imageLines, indexJson, indexLines } from './inspect-report.ts'
import { makeLocalImage } from './local-image.ts'
import { listOrbFiles } from './orb-folder.ts'
import { forUsers, parseWords } from './registry-commands.ts'
import {
  findLogin,
  LOGIN_OPTIONS,
  LOGIN_USAGE,
  type LoginOptions,
  type NamedImage,
  parseNamedImage,
} from './registry-login.ts'

/** The names that OCI gives to processors that Solo5 calls otherwise. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: 'amd64', aarch64: 'arm64' }

/** `rookery inspect`: what a kernel, a build or a pushed image is, and what it was made from. */
export const inspectCommand: Command = {
  words: ['inspect'],
  usage: `FILE|DIR|HOST/REPOSITORY:TAG [--target hvt|spt|virtio|muen|genode|xen] [--arch NAME] [--packages] [--verify] [--kernel FILE] ${LOGIN_USAGE} [--json]`,
  summary:
    'Show what a kernel, an orb folder or an image in any registry is, and from what it was made',
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      {
        target: { type: 'string' },
        arch: { type: 'string' },
        packages: { type: 'boolean', default: false },
        verify: { type: 'boolean', default: false },
        kernel: { type: 'string' },
        json: { type: 'boolean', default: false },
        ...LOGIN_OPTIONS,
      },
      { least: 1, most: 1, expected: 'a kernel, a folder, or HOST/REPOSITORY:TAG' },
    )
    const [what = ''] = positionals
    return forUsers(async () => {
      if (await isHere(what)) {
        return print(asserted(await inspectFiles(what, values.kernel), values), values)
      }
      if (values.kernel !== undefined) throw new UsageError('--kernel chooses from a folder')
      const named = namedOrAbsent(what, values)
      return inspectRemote(named, values, environment)
    })
  },
}

type Wish = LoginOptions & {
  readonly target?: string | undefined
  readonly arch?: string | undefined
  readonly packages: boolean
  readonly verify: boolean
  readonly json: boolean
}

function isHere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

function namedOrAbsent(what: string, options: LoginOptions): NamedImage {
  const isPath = /^[./~]/.test(what) || !what.includes('/')
  if (isPath) throw new CommandError(`there is no file or folder ${visible(what)}`)
  try {
    return parseNamedImage(what, options)
  } catch (error) {
    if (!(error instanceof MalformedReferenceError)) throw error
    const message = `there is no file or folder ${visible(what)}, and it is ${error.message}`
    throw new CommandError(message, { cause: error })
  }
}

async function inspectFiles(path: string, kernel: string | undefined): Promise<Inspected> {
  const files = await listOrbFiles(path, kernel)
  const { image, digest, manifest, store } = await makeLocalImage({ files })
  if (image === undefined) throw new CommandError(`${visible(path)} has no Solo5 kernel`)
  return {
    name: path,
    // One kernel is no image yet.
    digest: files.length > 1 ? digest : undefined,
    image,
    manifest,
    buildHash: await compareSourceHash(image, store),
    verified: true,
    contradiction: undefined,
  }
}

async function inspectRemote(
  named: NamedImage,
  wish: Wish,
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const { reference } = named
  const at = reference.digest ?? reference.tag
  if (at === undefined) throw new UsageError('the reference must end with :TAG or @DIGEST')
  const repository = new RemoteRepository(reference, reference.repository, {
    login: await findLogin(named, wish, environment),
    environment,
    actions: 'pull',
  })
  try {
    const found = await foundManifest(repository, at, reference)
    const manifest = parseManifest(found.bytes, found.mediaType)
    const name = formatReference(reference)
    if (manifest.children.length === 0) {
      return print(
        asserted(await inspectManifest(repository, name, found, manifest, wish), wish),
        wish,
      )
    }
    const child = chosen(manifest.children, wish, name)
    if (child === undefined) {
      const { children } = manifest
      if (wish.json) printJson(indexJson(name, found.digest, children))
      else printLines(indexLines(name, found.digest, children))
      return STATUS.ok
    }
    const one = await foundManifest(repository, child.digest, reference)
    const its = parseManifest(one.bytes, one.mediaType)
    const inspected = asserted(await inspectManifest(repository, name, one, its, wish), wish)
    const { abi, architecture } = inspected.image.kernel.solo5
    const contradiction = findContradiction(() =>
      validateChild(child, { target: abi.target, architecture }),
    )
    return print(
      {
        ...inspected,
        index: found.digest,
        contradiction: inspected.contradiction ?? contradiction,
      },
      wish,
    )
  } finally {
    await repository.close()
  }
}

async function foundManifest(
  repository: RemoteRepository,
  at: string,
  { host, repository: name }: ImageReference,
): Promise<RemoteManifest> {
  const found = await repository.findManifest(at)
  if (found !== undefined) return found
  throw new CommandError(
    `there is no image ${at} in ${name} at ${host}, or nobody may see it without logging in`,
  )
}

async function inspectManifest(
  repository: RemoteRepository,
  name: string,
  { digest }: RemoteManifest,
  manifest: Manifest,
  { verify }: Wish,
): Promise<Inspected> {
  const store: ImageSource = {
    rangeOf: (part) => (start, end) => repository.readRange(part.digest, start, end),
    open: (one) => repository.openBlob(one),
  }
  const { image, lookup } = await readSourceImage(manifest, store)
  if (verify) for (const part of manifest.blobs) await verifyBlob(store, part)
  if (image === undefined) {
    // An image that says that it is a unikernel is told why it is none.
    validateImage(manifest, image, lookup)
    throw new CommandError(`${name} is no unikernel image: no layer is a Solo5 kernel`)
  }
  const buildHash = verify ? await compareSourceHash(image, store) : undefined
  const contradiction = findContradiction(() => {
    validateImage(manifest, image, lookup)
    if (buildHash !== undefined) assertBuildHash(buildHash)
  })
  return { name, digest, image, manifest, buildHash, verified: verify, contradiction }
}

/** Other registries do not judge what they take: a contradiction is shown, and the rest as well. */
function findContradiction(judge: () => void): string | undefined {
  try {
    judge()
    return undefined
  } catch (error) {
    if (error instanceof RegistryError) return error.message
    throw error
  }
}

/** The image of an index that is meant; undefined when several are and nothing was chosen. */
function chosen(children: readonly Child[], wish: Wish, name: string): Child | undefined {
  const { target, arch } = wish
  const unikernels = children.filter(({ platform }) => platform?.os === 'solo5')
  const fitting = unikernels.filter(
    ({ platform }) =>
      (target === undefined || platform?.variant === target) &&
      (arch === undefined || platform?.architecture === (ARCHITECTURES[arch] ?? arch)),
  )
  const [first, second] = fitting
  if (second === undefined && first !== undefined) return first
  if (target === undefined && arch === undefined) return undefined
  const wished = [target, arch].filter((one) => one !== undefined).join(' ')
  const there = unikernels.map(platformText).join(', ') || 'none'
  throw new CommandError(
    second === undefined
      ? `${name} has no image for ${visible(wished)}: there are ${visible(there)}`
      : `${name} has several images for ${visible(wished)}: choose with --target and --arch, of ${visible(there)}`,
  )
}

function platformText({ platform }: Child): string {
  return `${platform?.variant ?? '?'} ${platform?.architecture ?? '?'}`
}

/** Of a single image, target and architecture are no choice but must be right. */
function asserted(inspected: Inspected, { target, arch }: Wish): Inspected {
  const { abi, architecture } = inspected.image.kernel.solo5
  if (target !== undefined && target !== abi.target) {
    throw new CommandError(
      `${visible(inspected.name)} is for ${abi.target}, not ${visible(target)}`,
    )
  }
  const names = [architecture, ARCHITECTURES[architecture ?? '']]
  if (arch !== undefined && !names.includes(arch)) {
    throw new CommandError(
      `${visible(inspected.name)} is for ${architecture ?? 'no known processor'}, not ${visible(arch)}`,
    )
  }
  return inspected
}

function print(inspected: Inspected, { json, packages }: Wish): number {
  if (json) printJson(imageJson(inspected, packages))
  else printLines(imageLines(inspected, packages))
  return inspected.contradiction === undefined ? STATUS.ok : STATUS.found
}
