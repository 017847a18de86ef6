import type { UnikernelImage } from '../image.ts'
import { type Ecosystem, ecosystemOf } from '../versions/orders.ts'
import type { Differences, ValueChange } from './differences.ts'
import type { Comparison, KernelSide, Verdict } from './images.ts'
import { ASPECTS, BYTES } from './report.ts'

/** Changes of each kind that an outline has. */
const CHANGES_SHOWN_MAX = 40
/** Characters of a text that an outline has. */
const TEXT_SHOWN_MAX = 200

/** A difference: its values on both sides, null where a side does not have it, and what else is to say. */
export type Change = {
  readonly name: string
  readonly from: string | null
  readonly to: string | null
  readonly note: string | null
}

/** The first differences of a kind. */
export type ChangeList = { readonly count: number; readonly shown: readonly Change[] }

/** The differences of two images as their page shows them: the first ones of each kind. */
export type ComparisonOutline = {
  readonly verdict: Verdict
  readonly kernel: ValueChange<KernelSide> & { readonly same: boolean }
  /** Sources with other bytes under the same URL. */
  readonly replacedSources: ChangeList
  /** This list and those below are null when a side does not know them. */
  readonly devices: ChangeList | null
  readonly compiler: ChangeList | null
  readonly packages: ChangeList | null
  /** Vendored sources. */
  readonly sources: ChangeList | null
  readonly hostPackages: ChangeList | null
  /** The ecosystem of the packages of the host. Null when both sides differ in it. */
  readonly ecosystem: Ecosystem | null
  readonly environment: ChangeList | null
  /** The sizes of files by role, in bytes, without files whose size is the same on both sides. */
  readonly files: readonly {
    readonly role: string
    readonly from: number | null
    readonly to: number | null
  }[]
}

/** Outlines a comparison of two images. */
export function outlineComparison(
  from: UnikernelImage,
  to: UnikernelImage,
  comparison: Comparison,
): ComparisonOutline {
  const { verdict, kernel, devices, opam, systemPackages, buildEnvironment } = comparison
  const manager = systemPackages?.manager
  return {
    verdict,
    kernel,
    replacedSources: listOf(
      comparison.replacedSources.map(({ names, url, checksums }) => ({
        name: names.join(', '),
        from: checksums.from.join(' '),
        to: checksums.to.join(' '),
        note: url,
      })),
    ),
    devices: devices && changesOf({ ...devices, changed: [] }, ({ kind, name }) => [name, kind]),
    compiler:
      opam === undefined
        ? null
        : changesOf(
            opam.compiler,
            ({ name, version }) => [name, version],
            ({ name, from: before, version }) => ({ name, from: before, to: version, note: null }),
          ),
    packages:
      opam === undefined
        ? null
        : changesOf(
            opam.packages,
            ({ name, version }) => [name, version ?? UNKNOWN],
            ({ name, version, direction, aspects }) => ({
              name,
              from: version.from ?? UNKNOWN,
              to: version.to ?? UNKNOWN,
              note: noteOf([direction, ...aspects.map((aspect) => ASPECTS[aspect])]),
            }),
          ),
    sources:
      opam === undefined
        ? null
        : changesOf(
            opam.vendored,
            ({ directory, url }) => [directory, url],
            ({ directory, url, bytes }) => ({
              name: directory,
              from: url.from,
              to: url.to,
              // Another release has other bytes.
              note: url.from !== url.to && bytes === 'other' ? null : BYTES[bytes],
            }),
          ),
    hostPackages:
      systemPackages === undefined
        ? null
        : changesOf(
            systemPackages,
            ({ name, versions }) => [name, versions.join(', ')],
            ({ name, versions, direction }) => ({
              name,
              from: versions.from.join(', '),
              to: versions.to.join(', '),
              note: direction ?? null,
            }),
          ),
    ecosystem:
      manager?.from !== undefined && manager.from === manager.to ? ecosystemOf(manager.from) : null,
    environment:
      buildEnvironment === undefined
        ? null
        : changesOf(
            buildEnvironment,
            ({ name, value }) => [name, value],
            ({ name, value }) => ({ name, from: value.from, to: value.to, note: null }),
          ),
    files: fileSizes(from, to),
  }
}

const UNKNOWN = 'unknown'

/** Lists what changed, then what one side has alone. */
function changesOf<T, C>(
  { added, removed, changed }: Differences<T, C>,
  pairOf: (item: T) => readonly [name: string, value: string],
  changeOf?: (change: C) => Change,
): ChangeList {
  const alone = (items: readonly T[], side: 'from' | 'to') =>
    items.map((item) => {
      const [name, value] = pairOf(item)
      return { name, from: null, to: null, note: null, [side]: value }
    })
  return listOf([
    ...(changeOf === undefined ? [] : changed.map(changeOf)),
    ...alone(added, 'to'),
    ...alone(removed, 'from'),
  ])
}

function listOf(changes: readonly Change[]): ChangeList {
  const shown = changes.slice(0, CHANGES_SHOWN_MAX).map(({ name, from, to, note }) => ({
    name: shortened(name),
    from: from === null ? null : shortened(from),
    to: to === null ? null : shortened(to),
    note: note === null ? null : shortened(note),
  }))
  return { count: changes.length, shown }
}

function noteOf(words: readonly (string | undefined)[]): string | null {
  return words.filter((word) => word !== undefined).join('; ') || null
}

function fileSizes(from: UnikernelImage, to: UnikernelImage): ComparisonOutline['files'] {
  const sizesOf = ({ layers }: UnikernelImage) =>
    new Map(layers.flatMap(({ role, size }) => (role === undefined ? [] : [[role, size] as const])))
  const [before, after] = [sizesOf(from), sizesOf(to)]
  return [...new Set([...before.keys(), ...after.keys()])]
    .map((role) => ({ role, from: before.get(role) ?? null, to: after.get(role) ?? null }))
    .filter((file) => file.from !== file.to)
}

function shortened(text: string): string {
  return text.length <= TEXT_SHOWN_MAX ? text : `${text.slice(0, TEXT_SHOWN_MAX)}…`
}
