import { visibleJson } from '../../oci/hidden-characters.ts'
import type { Differences } from './differences.ts'
import type { ChangedHostPackage, HostPackage } from './host.ts'
import type { Comparison, Verdict } from './images.ts'
import type { ChangedSource } from './opam.ts'
import type { Aspect, ChangedPackage, ComparedPackage } from './packages.ts'
import type { Bytes } from './sources.ts'

const VERDICTS: Readonly<Record<Verdict, string>> = {
  'same-image': 'the same image on both sides',
  reproduced: 'the same kernel from the same inputs: reproduced',
  'not-reproducible': 'ANOTHER kernel from the SAME inputs: the build is not reproducible',
  'same-output': 'the same kernel from other inputs',
  different: 'another kernel from other inputs',
  unknown: 'the inputs of at least one image are unknown',
}

/** The words for what differs although the version is the same. */
export const ASPECTS: Readonly<Record<Aspect, string>> = {
  url: 'another address of the sources',
  checksums: 'OTHER BYTES of the sources',
  'no-common-checksum': 'no kind of checksum on both sides, so the bytes may differ',
  'extra-sources': 'other extra sources',
  pinned: 'pinned on one side only',
}

/** The relation of the bytes of two sources. */
export const BYTES: Readonly<Record<Bytes, string>> = {
  same: 'the same bytes',
  other: 'OTHER BYTES',
  unknown: 'no kind of checksum on both sides, so the bytes may differ',
}

/**
 * Formats a comparison for people, most important first: one change a line, with `+`, `-` or `~`.
 */
export function describeComparison(comparison: Comparison): string[] {
  return [...describeReplaced(comparison), ...describeChanges(comparison)]
}

/** Formats the sources whose bytes somebody replaced. Empty when there are none. */
export function describeReplaced({ replacedSources }: Comparison): string[] {
  return titled(
    'OTHER BYTES under the same address: somebody replaced them, and a checksum that both builds have differs',
    replacedSources.map(
      ({ url, names, checksums }) =>
        `! ${names.join(', ')}: ${url}: ${arrow(checksums.from.join(' '), checksums.to.join(' '))}`,
    ),
  )
}

/** Formats the verdict and the changes. */
export function describeChanges(comparison: Comparison): string[] {
  const { verdict, kernel, devices, opam, systemPackages, buildEnvironment } = comparison
  const { from, to } = kernel
  const abi = ({ target, abiVersion, architecture }: typeof from) =>
    `${target}${abiVersion == null ? '' : ` ABI ${abiVersion}`}${from.architecture === to.architecture ? '' : ` on ${architecture ?? 'an unknown processor'}`}`
  return [
    VERDICTS[verdict],
    ...titled('kernel', [
      ...(kernel.same ? [] : [`~ ${arrow(from.digest, to.digest)}`]),
      ...(from.size === to.size ? [] : [`~ ${arrow(`${from.size}`, `${to.size}`)} bytes`]),
      ...(abi(from) === abi(to) ? [] : [`~ ${arrow(abi(from), abi(to))}`]),
    ]),
    ...(devices == null
      ? ['devices: unknown on one side, which is no Solo5 kernel']
      : titled('devices', [
          ...devices.added.map(({ kind, name }) => `+ ${kind}:${name}`),
          ...devices.removed.map(({ kind, name }) => `- ${kind}:${name}`),
        ])),
    ...(opam == null
      ? ['opam packages: unknown on one side']
      : [
          ...titled('opam packages', listed(opam.packages, onlyPackage, changedPackage)),
          ...titled(
            'roots',
            listed(
              opam.roots,
              plainVersion,
              (one) => `${one.name} ${arrow(one.from, one.version)}`,
            ),
          ),
          ...titled(
            'vendored sources',
            listed(opam.vendored, ({ directory, url }) => `${directory} ${url}`, changedSource),
          ),
        ]),
    ...(systemPackages == null
      ? ['host packages: unknown on one side']
      : titled('host packages', listed(systemPackages, hostPackage, changedHostPackage))),
    ...(buildEnvironment == null
      ? ['build environment: unknown on one side']
      : titled(
          'build environment',
          listed(
            buildEnvironment,
            ({ name, value }) => `${name}=${value}`,
            ({ name, value }) => `${name}=${arrow(value.from, value.to)}`,
          ),
        )),
  ]
}

function titled(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [title, ...lines.map((line) => `  ${line}`)]
}

function listed<T, C>(
  { added, removed, changed }: Differences<T, C>,
  text: (item: T) => string,
  changedText: (change: C) => string,
): string[] {
  return [
    ...added.map((item) => `+ ${text(item)}`),
    ...removed.map((item) => `- ${text(item)}`),
    ...changed.map((change) => `~ ${changedText(change)}`),
  ]
}

const UNKNOWN = 'unknown version'

const plainVersion = ({ name, version }: { name: string; version: string }) => `${name} ${version}`

/** Packages are installed, unless the line says how else they are known. */
function onlyPackage({ name, version, basis }: ComparedPackage): string {
  const isKnown = basis === 'installed' || basis === 'unknown'
  return `${name} ${version ?? UNKNOWN}${isKnown ? '' : ` (${basis})`}`
}

function changedPackage({ name, version, basis, direction, aspects }: ChangedPackage): string {
  const basisText = basis.from === basis.to ? basis.to : arrow(basis.from, basis.to)
  const isInstalled = basis.from === 'installed' && basis.to === 'installed'
  const notes = [...aspects.map((aspect) => ASPECTS[aspect]), ...(isInstalled ? [] : [basisText])]
  const what = notes.length === 0 ? '' : ` (${notes.join(', ')})`
  if (version.from === version.to) return `${name} ${version.to ?? UNKNOWN}${what}`
  const down = direction === 'downgrade' ? ' DOWNGRADE' : ''
  return `${name} ${arrow(version.from ?? UNKNOWN, version.to ?? UNKNOWN)}${down}${what}`
}

function changedSource({ directory, url, bytes }: ChangedSource): string {
  const where = url.from === url.to ? `under ${url.to}` : arrow(url.from, url.to)
  const isNews = url.from === url.to || bytes === 'same'
  return `${directory} ${where}${isNews ? ` (${BYTES[bytes]})` : ''}`
}

/** Both values, which differ. Quoted when they would look the same, because only blanks or hidden characters differ. */
function arrow(from: string, to: string): string {
  const isHidden = shown(from) === shown(to)
  return isHidden ? `${visibleJson(from)} → ${visibleJson(to)}` : `${from} → ${to}`
}

function shown(text: string): string {
  return text.replace(/[\s\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim()
}

const hostPackage = ({ name, versions }: HostPackage) => `${name} ${versions.join(', ')}`

function changedHostPackage({ name, versions, direction }: ChangedHostPackage): string {
  const down = direction === 'downgrade' ? ' DOWNGRADE' : ''
  return `${name} ${arrow(versions.from.join(', '), versions.to.join(', '))}${down}`
}
