import type { UnikernelImage } from '../../unikernel/image.ts'
import type { ImagePackage } from '../../unikernel/image-packages.ts'
import { wideTable } from './wide-table.ts'

/** The packages of an image. */
export type PackagesOfImage = {
  readonly packages: readonly ImagePackage[]
  /** `registry`: it knows the packages with its index of opam repositories; `image`: only the image says them. */
  readonly packagesFrom: 'registry' | 'image'
  readonly image: UnikernelImage
}

/** Numbers of packages of one ecosystem. `known`: installed, by a lock file, or by the index of an opam repository. */
export type PackageCounts = { readonly ecosystem: string } & Readonly<
  Record<'total' | 'known' | 'inferred' | 'unknown', number>
>

/** Counts the packages of each ecosystem, in the order of ecosystems. */
export function countPackages(packages: readonly ImagePackage[]): PackageCounts[] {
  const ecosystems = [...new Set(packages.map(({ ecosystem }) => ecosystem))].toSorted()
  return ecosystems.map((ecosystem) => {
    const own = packages.filter((one) => one.ecosystem === ecosystem)
    const inferred = own.filter(({ basis }) => basis === 'inferred').length
    const unknown = own.filter(({ basis }) => basis === 'unknown').length
    const total = own.length
    return { ecosystem, total, known: total - inferred - unknown, inferred, unknown }
  })
}

const ALONE =
  'The image alone says this; a registry with an index of opam repositories may know more.'

/** Every package with its version and how it is known, and then the shares. */
export function packageLines({ packages, packagesFrom, image }: PackagesOfImage): string[] {
  const installed = new Map(
    image.opamSwitch?.installed.map((one) => [`${one.name} ${one.version}`, one]),
  )
  const rows = packages.map(({ ecosystem, name, version, basis, source }) => {
    const own = basis === 'installed' ? installed.get(`${name} ${version}`) : undefined
    const pinned = ecosystem === 'opam' && own?.pinned ? ' (pinned)' : ''
    const url = source?.url ?? (ecosystem === 'opam' ? own?.source?.url : undefined)
    return [`${ecosystem}/${name}`, `${version ?? 'unknown'}${pinned}`, basis, url ?? '']
  })
  if (rows.length === 0) return []
  return [
    '',
    ...wideTable(['PACKAGE', 'VERSION', 'KNOWN', 'SOURCE'], rows),
    '',
    ...countPackages(packages).map(countLine),
    ...(packagesFrom === 'image' ? [ALONE] : []),
  ]
}

function countLine({ ecosystem, total, known, inferred, unknown }: PackageCounts): string {
  const share = (count: number) => `${count} (${((100 * count) / total).toFixed(1)} %)`
  return `${ecosystem}: ${total} packages: ${share(known)} known, ${share(inferred)} inferred, ${share(unknown)} unknown`
}
