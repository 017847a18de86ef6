import { stat } from 'node:fs/promises'
import {
  formatReference,
  type ImageReference,
  MalformedReferenceError,
} from '../../client/image-reference.ts'
import type { ImageSource } from '../../client/image-source.ts'
import { compareSourceHash, readSourceImage, verifyBlob } from '../../client/image-source.ts'
import type { Login } from '../../client/login.ts'
import type { RemoteManifest, RemoteRepository } from '../../client/remote-repository.ts'
import { type Digest, parseDigest } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'
import { type Child, type Manifest, parseManifest } from '../../oci/manifest.ts'
import type { UnikernelImage } from '../../unikernel/image.ts'
import { listKnownPackages } from '../../unikernel/image-packages.ts'
import { findTarget } from '../../unikernel/targets.ts'
import { assertBuildHash, validateChild, validateImage } from '../../unikernel/validation.ts'
import { argument, command, flag, JSON_OPTION, type Values, value } from '../command.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { printJson, printLines, visible } from '../printing.ts'
import { withClientErrors } from './client-errors.ts'
import { type Inspected, imageJson, imageLines, indexJson, indexLines } from './inspect-report.ts'
import { readLocalImage } from './local-image.ts'
import {
  findLogin,
  LOGIN_OPTIONS,
  type LoginOptions,
  type NamedImage,
  parseNamedImage,
  readReference,
} from './login-options.ts'
import { isSolo5Kernel, listOrbFiles } from './orb-folder.ts'
import { PLATFORM_OPTIONS, targetOfChild } from './platform-options.ts'
import { withProgress } from './progress-bar.ts'
import { withPackages } from './registry-packages.ts'
import { findReason, findUnwrapped, isContainerImage } from './unwrapped-images.ts'

/** The OCI names of the processors that Solo5 names differently. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: 'amd64', aarch64: 'arm64' }

const OPTIONS = {
  ...PLATFORM_OPTIONS,
  packages: flag('list all packages, how each is known, and the shares'),
  verify: flag('read all layers and verify their digests and the build hash'),
  kernel: value('FILE', 'kernel to inspect when the folder has several'),
  ...JSON_OPTION,
  ...LOGIN_OPTIONS,
}

type InspectOptions = Values<typeof OPTIONS>

/** `rookery inspect`: the kernel, devices, layers and provenance of a file, a build or an image. */
export const inspectCommand = command({
  arguments: {
    subject: argument(
      'FILE|DIR|HOST/REPOSITORY:TAG',
      "a kernel, orb's output folder, or an image of any registry",
    ),
  },
  options: OPTIONS,
  notes: 'The exit status is 1 when the image contradicts its own description.',
  examples: [
    ['rookery inspect www.hvt', 'a kernel: target, ABI, devices and how to start it'],
    ['rookery inspect registry.example.org/builds/www:live --packages', 'an image'],
  ],
  run(values, environment) {
    const { subject } = values
    return withClientErrors(async () => {
      if (await exists(subject)) {
        const inspected = await inspectFiles(subject, values)
        return print(assertPlatform(inspected, values), values)
      }
      if (values.kernel !== undefined) throw new UsageError('--kernel needs a folder')
      return inspectRemote(parseImage(await readReference(subject), values), values, environment)
    })
  },
})

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

function parseImage(text: string, options: LoginOptions): NamedImage {
  const isPath = /^[./~]/.test(text) || !text.includes('/')
  if (isPath) throw new CommandError(`there is no file or folder ${visible(text)}`)
  try {
    return parseNamedImage(text, options)
  } catch (error) {
    if (!(error instanceof MalformedReferenceError)) throw error
    const message = `there is no file or folder ${visible(text)}, and it is ${error.message}`
    throw new CommandError(message, { cause: error })
  }
}

async function inspectFiles(
  path: string,
  { kernel, target: selected }: InspectOptions,
): Promise<Inspected> {
  // The target of a Solo5 kernel is in its notes; of another kind it may be given here alone.
  const files = await listOrbFiles(path, kernel, selected)
  const target = (await isSolo5Kernel(files)) ? undefined : selected
  const { image, digest, manifest, store } = await readLocalImage({ files, target })
  if (image === undefined) throw new CommandError(`${visible(path)} has no kernel`)
  return {
    name: path,
    // A kernel alone is not an image.
    digest: files.length > 1 ? digest : undefined,
    image,
    manifest,
    buildHash: await compareSourceHash(image, store),
    verified: true,
    packages: listKnownPackages(image),
    packagesFrom: 'image',
    contradiction: undefined,
  }
}

async function inspectRemote(
  named: NamedImage,
  options: InspectOptions,
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const login = await findLogin(named, options, environment)
  const access = { login, environment }
  const reference = await withWholeDigest(named.reference, access)
  const at = reference.digest ?? reference.tag
  if (at === undefined) throw new UsageError('the reference must end with :TAG or @DIGEST')
  // Loaded here, so that help does not load the HTTP client.
  const { RemoteRepository } = await import('../../client/remote-repository.ts')
  const repository = new RemoteRepository(reference, reference.repository, {
    login,
    environment,
    actions: 'pull',
  })
  try {
    const found = await foundManifest(repository, at, reference)
    const manifest = parseManifest(found.bytes, found.mediaType)
    const name = formatReference(reference)
    if (isContainerImage(manifest)) {
      const of = { name, container: found.digest }
      const inspected = await inspectContainer(repository, of, options)
      if (inspected !== undefined) return print(inspected, options)
      const reason = await findReason(reference, at, access)
      throw new CommandError(
        `${name} is not a unikernel image: ${reason ?? 'no layer is a Solo5 kernel'}`,
      )
    }
    if (manifest.children.length === 0) {
      const inspected = await inspectManifest(repository, name, found, manifest, options)
      const whole = assertPlatform(inspected, options)
      return print(options.packages ? await withPackages(whole, reference, access) : whole, options)
    }
    const child = chooseChild(manifest.children, options, name)
    if (child === undefined) {
      const { children } = manifest
      if (options.json) printJson(indexJson(name, found.digest, children))
      else printLines(indexLines(name, found.digest, children))
      return STATUS.ok
    }
    const one = await foundManifest(repository, child.digest, reference)
    const its = parseManifest(one.bytes, one.mediaType)
    const alone = assertPlatform(
      await inspectManifest(repository, name, one, its, options),
      options,
    )
    const inspected = options.packages ? await withPackages(alone, reference, access) : alone
    const { target, architecture, solo5 } = inspected.image.kernel
    const contradiction = findContradiction(() =>
      validateChild(child, { target, architecture, isSolo5: solo5 !== undefined }),
    )
    return print(
      {
        ...inspected,
        index: found.digest,
        contradiction: inspected.contradiction ?? contradiction,
      },
      options,
    )
  } finally {
    await repository.close()
  }
}

/** Inspects the kernel that the registry found in a container image. Undefined when it found none. */
async function inspectContainer(
  repository: RemoteRepository,
  { name, container }: { readonly name: string; readonly container: Digest },
  options: InspectOptions,
): Promise<Inspected | undefined> {
  const images: Inspected[] = []
  for (const { found, manifest } of await findUnwrapped(repository, container)) {
    images.push(await inspectManifest(repository, name, found, manifest, options))
  }
  const [first] = images
  const [only, other] = images.filter(({ image }) => isForPlatform(image, options))
  if (first === undefined) return undefined
  if (only === undefined) return assertPlatform(first, options)
  if (other === undefined) return { ...only, container }
  const targets = images.map(({ image }) => image.kernel.target).join(', ')
  throw new CommandError(`${name} has several kernels: ${targets}; choose with --target and --arch`)
}

function isForPlatform({ kernel }: UnikernelImage, { target, arch }: InspectOptions): boolean {
  const { architecture } = kernel
  const names = [undefined, architecture, ARCHITECTURES[architecture ?? '']]
  const wanted = target && (findTarget(target) ?? target)
  return (wanted === undefined || wanted === kernel.target) && names.includes(arch)
}

/** Finds the digest that a shortened one is of. Only a Rookery can, and the image must be a unikernel. */
async function withWholeDigest(
  reference: ImageReference,
  options: { readonly login: Login | undefined; readonly environment: NodeJS.ProcessEnv },
): Promise<ImageReference> {
  const { digestPrefix, repository } = reference
  if (digestPrefix === undefined) return reference
  const { RegistryApi } = await import('../../client/registry-api.ts')
  const api = new RegistryApi(reference, options)
  try {
    const path = `/api/v1/repositories/${repository}/images/${digestPrefix}`
    const { digest } = (await api.find(path, `the image ${digestPrefix}`)) as {
      readonly digest: string
    }
    return { ...reference, digest: parseDigest(digest), digestPrefix: undefined }
  } finally {
    await api.close()
  }
}

async function foundManifest(
  repository: RemoteRepository,
  at: string,
  { host, repository: name }: ImageReference,
): Promise<RemoteManifest> {
  const found = await repository.findManifest(at)
  if (found !== undefined) return found
  throw new CommandError(`there is no image ${at} in ${name} at ${host}, or it needs a login`)
}

async function inspectManifest(
  repository: RemoteRepository,
  name: string,
  { digest }: RemoteManifest,
  manifest: Manifest,
  { verify }: InspectOptions,
): Promise<Inspected> {
  const store: ImageSource = {
    rangeOf: (part) => (start, end) => repository.readRange(part.digest, start, end),
    async open(one) {
      const size = manifest.blobs.find(({ digest }) => digest === one)?.size ?? 0
      return withProgress(await repository.openBlob(one), size, `reading ${one.slice(0, 19)}`)
    },
  }
  const { image, lookup } = await readSourceImage(manifest, store)
  if (verify) for (const part of manifest.blobs) await verifyBlob(store, part)
  if (image === undefined) {
    // An image declared as a unikernel fails here, with the reason.
    validateImage(manifest, image, lookup)
    throw new CommandError(
      `${name} is not a unikernel image: no layer is a Solo5 kernel, and no other kind is declared`,
    )
  }
  const buildHash = verify ? await compareSourceHash(image, store) : undefined
  const contradiction = findContradiction(() => {
    validateImage(manifest, image, lookup)
    if (buildHash !== undefined) assertBuildHash(buildHash)
  })
  const packages = listKnownPackages(image)
  const facts = { packages, packagesFrom: 'image' as const }
  return { name, digest, image, manifest, buildHash, verified: verify, ...facts, contradiction }
}

/** Other registries do not validate images: a contradiction is shown beside everything else. */
function findContradiction(validate: () => void): string | undefined {
  try {
    validate()
    return undefined
  } catch (error) {
    if (error instanceof RegistryError) return error.message
    throw error
  }
}

/** Chooses an image of an index; undefined when there are several and no option chooses. */
function chooseChild(
  children: readonly Child[],
  options: InspectOptions,
  name: string,
): Child | undefined {
  const { arch } = options
  const target = options.target && (findTarget(options.target) ?? options.target)
  const unikernels = children.filter(({ platform }) => targetOfChild(platform) !== undefined)
  const matching = unikernels.filter(
    ({ platform }) =>
      (target === undefined || targetOfChild(platform) === target) &&
      (arch === undefined || platform?.architecture === (ARCHITECTURES[arch] ?? arch)),
  )
  const [first, second] = matching
  if (second === undefined && first !== undefined) return first
  if (target === undefined && arch === undefined) return undefined
  const requested = [target, arch].filter((one) => one !== undefined).join(' ')
  const available = unikernels.map(platformText).join(', ') || 'none'
  throw new CommandError(
    second === undefined
      ? `${name} has no image for ${visible(requested)}; available: ${visible(available)}`
      : `${name} has several images for ${visible(requested)}; choose with --target and --arch: ${visible(available)}`,
  )
}

function platformText({ platform }: Child): string {
  return `${platform?.variant ?? '?'} ${platform?.architecture ?? '?'}`
}

/** Checks --target and --arch against a single image. Throws CommandError. */
function assertPlatform(inspected: Inspected, { target, arch }: InspectOptions): Inspected {
  const { target: found, architecture } = inspected.image.kernel
  if (target !== undefined && (findTarget(target) ?? target) !== found) {
    throw new CommandError(`${visible(inspected.name)} is for ${found}, not ${visible(target)}`)
  }
  const names = [architecture, ARCHITECTURES[architecture ?? '']]
  if (arch !== undefined && !names.includes(arch)) {
    throw new CommandError(
      `${visible(inspected.name)} is for ${architecture ?? 'an unknown processor'}, not ${visible(arch)}`,
    )
  }
  return inspected
}

function print(inspected: Inspected, { json, packages }: InspectOptions): number {
  if (json) printJson(imageJson(inspected, packages))
  else printLines(imageLines(inspected, packages))
  return inspected.contradiction === undefined ? STATUS.ok : STATUS.found
}
