import type { Digest } from '../../oci/digest.ts'
import type { Child, Manifest } from '../../oci/manifest.ts'
import { baseName, CREATED, UNWRAPPED } from '../../unikernel/format.ts'
import { describeHost, type Host } from '../../unikernel/host/build-environment.ts'
import {
  abiVersionOf,
  aboutOf,
  devicesOf,
  type ImageLayer,
  type Kernel,
  type UnikernelImage,
} from '../../unikernel/image.ts'
import type { Device } from '../../unikernel/kernel/solo5-notes.ts'
import { runLine } from '../../unikernel/run-line.ts'
import { type BuildHashComparison, listMissingInputs } from '../../unikernel/validation.ts'
import { sizeText, visible } from '../printing.ts'
import { countPackages, type PackagesOfImage, packageLines } from './inspect-packages.ts'
import { targetOfChild } from './platform-options.ts'
import { wideTable } from './wide-table.ts'

/** An inspected image. */
export type Inspected = PackagesOfImage & {
  /** Its name on the command line. */
  readonly name: string
  /** The digest of the manifest; undefined for a kernel alone. */
  readonly digest: Digest | undefined
  /** The index that it was chosen from. */
  readonly index?: Digest
  /** The container image that the registry found its kernel in. */
  readonly container?: Digest
  readonly manifest: Manifest
  /** Undefined without --verify, or without build hashes. */
  readonly buildHash: BuildHashComparison | undefined
  /** True when the digests of all bytes were verified. */
  readonly verified: boolean
  /** A contradiction between the image and its own description. */
  readonly contradiction: string | undefined
}

const ROOTS_SHOWN_MAX = 5
/** The packages of the toolchain. */
const TOOLCHAIN = ['ocaml', 'mirage', 'solo5', 'ocaml-solo5']

/** The report as lines of text. */
export function imageLines(inspected: Inspected, packages: boolean): string[] {
  const { image, manifest, index, container, digest, name } = inspected
  const { kernel, opamSwitch, systemPackages, buildEnvironment } = image
  const devices = devicesOf(kernel)
  const host = buildEnvironment && hostText(describeHost(buildEnvironment))
  const created = manifest.annotations?.[CREATED]
  const rows: (readonly [string, string | undefined])[] = [
    ['image', name],
    ['index', index],
    ['container', container],
    ['path', manifest.annotations?.[UNWRAPPED.path]],
    ['digest', digest],
    ['created', digest === undefined ? undefined : created],
    ['kernel', `${kernel.title ?? 'unnamed'}, ${sizeText(kernel.size)}`],
    ['', kernel.digest],
    ['target', targetText(kernel)],
    ...(devices === undefined ? [] : devicesRows(devices)),
    ['run', runLine(image)],
    ['config', configText(image)],
    ['input id', image.inputId ?? `none; missing inputs: ${listMissingInputs(image).join(', ')}`],
    ['about', aboutOf(image)?.synopsis],
    ['opam', opamText(image)],
    ['roots', opamSwitch && rootsText(opamSwitch.roots)],
    [
      'system',
      systemPackages &&
        `${systemPackages.packages.length} ${systemPackages.manager ?? ''} packages`,
    ],
    ['built on', host],
    ['build hash', buildHashText(inspected)],
    ['wrong', inspected.contradiction],
  ]
  return [
    ...rows
      .filter(([, text]) => text !== undefined)
      .map(([heading, text]) => `${heading.padEnd(11)} ${visible(text ?? '')}`.trimEnd()),
    '',
    ...layerLines(image.layers),
    ...(packages ? packageLines(inspected) : []),
  ]
}

/** The report as JSON. */
export function imageJson(inspected: Inspected, packages: boolean) {
  const { image, manifest, name, digest, index, buildHash, verified, contradiction } = inspected
  const { kernel, opamSwitch, systemPackages, buildEnvironment, config } = image
  return {
    name,
    digest: digest ?? null,
    index: index ?? null,
    container: inspected.container ?? null,
    path: manifest.annotations?.[UNWRAPPED.path] ?? null,
    created: manifest.annotations?.[CREATED] ?? null,
    kernel: { digest: kernel.digest, title: kernel.title ?? null, size: kernel.size },
    target: kernel.target,
    abiVersion: abiVersionOf(kernel) ?? null,
    architecture: kernel.architecture ?? null,
    devices: devicesOf(kernel) ?? null,
    inputId: image.inputId ?? null,
    missingInputs: listMissingInputs(image),
    synopsis: aboutOf(image)?.synopsis ?? null,
    description: aboutOf(image)?.description ?? null,
    config: config ?? null,
    layers: image.layers.map(({ role, title, problem, ...layer }) => ({
      role: role ?? null,
      title: title ?? null,
      ...layer,
      problem: problem ?? null,
    })),
    ...(packages
      ? {
          packages: inspected.packages,
          packagesFrom: inspected.packagesFrom,
          packageCounts: countPackages(inspected.packages),
        }
      : {}),
    opam: opamSwitch
      ? {
          compiler: opamSwitch.compiler,
          roots: opamSwitch.roots,
          count: opamSwitch.installed.length,
          ...(packages ? { packages: opamSwitch.installed } : {}),
        }
      : null,
    systemPackages: systemPackages
      ? {
          manager: systemPackages.manager ?? null,
          count: systemPackages.packages.length,
          ...(packages ? { packages: systemPackages.packages } : {}),
        }
      : null,
    buildEnvironment: buildEnvironment
      ? { variables: buildEnvironment.variables, host: describeHost(buildEnvironment) }
      : null,
    buildHash: buildHash ? { ...buildHash, same: buildHash.declared === buildHash.found } : null,
    verified,
    contradiction: contradiction ?? null,
  }
}

/** The images of an index as lines of text. */
export function indexLines(name: string, digest: Digest, children: readonly Child[]): string[] {
  const rows = children.map(({ platform, digest: child }) => [
    platform?.os ?? '',
    platform?.variant ?? '',
    platform?.architecture ?? '',
    child,
  ])
  return [
    `index       ${visible(name)}`,
    `digest      ${digest}`,
    '',
    ...wideTable(['OS', 'TARGET', 'ARCH', 'IMAGE'], rows),
    '',
    'Choose one with --target and --arch.',
  ]
}

/** The images of an index as JSON. */
export function indexJson(name: string, digest: Digest, children: readonly Child[]) {
  const images = children.map(({ digest: child, platform }) => ({
    digest: child,
    os: platform?.os ?? null,
    target: targetOfChild(platform) ?? null,
    architecture: platform?.architecture ?? null,
  }))
  return { name, index: digest, images }
}

function layerLines(layers: readonly ImageLayer[]): string[] {
  const rows = layers.map(({ role, title, size, digest }) => [
    role ?? '-',
    title === undefined ? '-' : baseName(title),
    sizeText(size),
    digest,
  ])
  const problems = layers.flatMap(({ title, digest, problem }) =>
    problem === undefined ? [] : [`not parsed: ${visible(`${title ?? digest}: ${problem}`)}`],
  )
  return [...wideTable(['LAYER', 'TITLE', 'SIZE', 'DIGEST'], rows), ...problems]
}

function targetText(kernel: Kernel): string {
  const architecture = kernel.architecture ?? 'unknown processor'
  const abi = abiVersionOf(kernel)
  return abi === undefined
    ? `${kernel.target}, ${architecture}; declared, because it is no Solo5 kernel: its ABI and devices are unknown`
    : `${kernel.target}, ABI ${abi}, ${architecture}`
}

function devicesRows(devices: readonly Device[]): (readonly [string, string])[] {
  if (devices.length === 0) return [['devices', 'none']]
  return devices.map(({ kind, name }, index) => [index === 0 ? 'devices' : '', `${kind} ${name}`])
}

function configText({ config }: UnikernelImage): string | undefined {
  if (config === undefined) return undefined
  return [config.name, config.memory === undefined ? undefined : `${config.memory} MiB of memory`]
    .filter((part) => part !== undefined)
    .join(', ')
}

function opamText({ opamSwitch }: UnikernelImage): string | undefined {
  if (opamSwitch === undefined) return undefined
  const { installed } = opamSwitch
  const toolchain = TOOLCHAIN.flatMap((name) => {
    const found = installed.find((one) => one.name === name)
    return found === undefined ? [] : [`${name} ${found.version}`]
  })
  return [`${installed.length} packages`, ...toolchain].join(', ')
}

function rootsText(roots: readonly { name: string; version: string }[]): string {
  const shown = roots.slice(0, ROOTS_SHOWN_MAX).map(({ name, version }) => `${name}.${version}`)
  const more = roots.length - shown.length
  return `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

function hostText({ os, distribution, version, architecture, sourceDateEpoch }: Host): string {
  const system = [distribution ?? os, version].filter((part) => part !== undefined).join(' ')
  const epoch = sourceDateEpoch === undefined ? undefined : `SOURCE_DATE_EPOCH ${sourceDateEpoch}`
  return [system || 'unknown', architecture, epoch].filter((part) => part !== undefined).join(', ')
}

function buildHashText({ buildHash, image, verified }: Inspected): string | undefined {
  if (buildHash !== undefined) {
    const { algorithm, declared, found } = buildHash
    return declared === found
      ? `${algorithm} ${declared}, equal to the kernel's`
      : `${algorithm} ${declared}, but the kernel's is ${found}`
  }
  if (image.buildHashes === undefined) return undefined
  return verified ? 'none for the kernel' : 'not compared; --verify compares it'
}
