import { printLines, printTable, utcText } from '../printing.ts'
import { shortDigest } from './api-client.ts'
import type { ListedImage, PackageHit, SourceHit } from './api-types.ts'
import { hiddenLines, nameText } from './hidden-names.ts'
import { wideTable } from './wide-table.ts'

/** Prints a table of images. */
export function printImages(images: readonly ListedImage[]): void {
  const rows = images.map((image) => [
    image.repository,
    image.tags.join(',') || '-',
    shortDigest(image.digest),
    image.target,
    devicesText(image),
    nameText(image.builder),
    utcText(image.pushedAt),
  ])
  printTable(['REPOSITORY', 'TAGS', 'DIGEST', 'TARGET', 'DEVICES', 'BUILDER', 'PUSHED'], rows)
  printLines(hiddenLines(images.map(({ builder }) => builder)))
}

function devicesText({ devices }: ListedImage): string {
  if (devices === null) return 'unknown'
  return devices.map(({ kind, name }) => `${kind}:${name}`).join(',') || '-'
}

/** Prints a table of images that contain a package. */
export function printPackageHits(hits: readonly PackageHit[]): void {
  const rows = hits.map((hit) => [
    hit.repository,
    hit.tags.join(',') || '-',
    shortDigest(hit.digest),
    hit.version ?? 'unknown',
    hit.basis,
    hit.target,
    utcText(hit.pushedAt),
  ])
  printTable(['REPOSITORY', 'TAGS', 'DIGEST', 'VERSION', 'KNOWN BY', 'TARGET', 'PUSHED'], rows)
}

/** Prints a table of images that were built from a source. The last column is the whole URL. */
export function printSourceHits(hits: readonly SourceHit[]): void {
  const rows = hits.map(({ source, ...hit }) => [
    hit.repository,
    hit.tags.join(',') || '-',
    shortDigest(hit.digest),
    hit.target,
    utcText(hit.pushedAt),
    source.packages.map(({ name, version }) => `${name}.${version ?? 'unknown'}`).join(',') ||
      source.directory ||
      '-',
    source.url,
  ])
  const headings = ['REPOSITORY', 'TAGS', 'DIGEST', 'TARGET', 'PUSHED', 'PACKAGES', 'SOURCE']
  if (rows.length === 0) printTable(headings, rows)
  else printLines(wideTable(headings, rows))
}
