import { randomBytes } from 'node:crypto'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'

const MANIFEST_BYTES_MAX = 8 * 1024 * 1024

export const numbers = (count: number) => [...new Array(count).keys()]
const lines = (count: number, line: (index: number) => string) =>
  numbers(count).map(line).join('\n')

/** The largest files of an image within the bounds. Each call makes other bytes, which are not yet analyzed. */
export function heavyFiles(): Record<string, Buffer> {
  const unique = randomBytes(4).toString('hex')
  return {
    'system-packages': Buffer.from(
      lines(
        20_000,
        (index) =>
          `p${(index * 7919) % 20_000}:amd64=${index === 0 ? unique : index}~${'x'.repeat(70)}`,
      ),
    ),
    'opam-switch': Buffer.from(`opam-version: "2.0"
installed: [${lines(2_000, (index) => `"p${index}.${index === 0 ? unique : 1}"`)}]
${lines(2_000, (index) => `package "p${index}" { url { src: "https://example.org/${index}/%é${'é'.repeat(40)}" } }`)}
package "p0" { x-orb-dependencies: [${lines(200, (index) => `["p${index}" [${lines(200, (at) => `"p${at}"`)}]]`)}]
x-opam-monorepo-duniverse-dirs: [${lines(5_000, (index) => `["git+https://github.com/a/${'é'.repeat(9)}${index}.git#v${index}" "d${index}"]`)}] }`),
    'opam-lock': Buffer.from(`opam-version: "2.0" # ${unique}
depends: [${lines(5_000, (index) => `"a-${index}" {= "1" & ?vendor}`)}]
x-opam-monorepo-duniverse-dirs: [${lines(5_000, (index) => `["https://example.org/a-${'-'.repeat(20)}${index}.tbz" "a-${index}"]`)}]`),
    'build-environment': Buffer.from(lines(9_000, (index) => `V${index}=${unique}\u0001\u0001`)),
    'build-hashes': Buffer.from(`added: [${lines(30_000, (index) => `"${index}"`)} "${unique}"]`),
    config: Buffer.from(
      JSON.stringify({ argv: numbers(1_000).map(() => 'a'.repeat(50)), name: unique }),
    ),
  }
}

/** An executable with the most note segments and notes that are read. None is Solo5's. */
export function kernelOfNotes(): Buffer {
  const [segments, bytesOfNotes, begin] = [7, 64 * 1024, 1024]
  const kernel = Buffer.alloc(begin + segments * bytesOfNotes)
  // ELF64, little-endian, version 1, an executable; then the offset, row size and number of its segments.
  kernel.write('7f454c46020101', 0, 'hex')
  kernel.writeUInt16LE(2, 16)
  kernel.writeUInt16LE(62, 18)
  kernel.writeUInt32LE(1, 20)
  kernel.writeUInt32LE(64, 32)
  kernel.writeUInt16LE(64, 52)
  kernel.writeUInt16LE(56, 54)
  kernel.writeUInt16LE(segments, 56)
  for (const index of numbers(segments)) {
    const row = 64 + index * 56
    kernel.writeUInt32LE(4, row)
    kernel.writeUInt32LE(begin + index * bytesOfNotes, row + 8)
    kernel.writeUInt32LE(bytesOfNotes, row + 32)
    kernel.writeUInt32LE(4, row + 48)
  }
  randomBytes(4).copy(kernel, begin + 8)
  return kernel
}

/** A manifest with as many bytes, values, levels and annotations as the bounds allow. */
export function largestManifest(layer: { digest: string; size: number }): string {
  const unique = randomBytes(4).toString('hex')
  const base = {
    schemaVersion: 2,
    mediaType: IMAGE_MANIFEST,
    config: {
      mediaType: 'application/vnd.oci.empty.v1+json',
      digest: digestOf('{}'),
      size: 2,
    },
    layers: numbers(2_000).map((index) => ({
      mediaType: 'application/vnd.unikernel.console.v1',
      digest: layer.digest,
      size: layer.size,
      annotations: { 'org.opencontainers.image.title': `${unique}${index}` },
    })),
    annotations: Object.fromEntries(
      numbers(1_000).map((index) => [`k${index}`, '"ä\\'.repeat(900)]),
    ),
    x: numbers(30_000),
    deep: JSON.parse(`${'['.repeat(60)}${']'.repeat(60)}`),
  }
  const body = JSON.stringify({ ...base, rest: '' })
  return JSON.stringify({
    ...base,
    rest: 'x'.repeat(MANIFEST_BYTES_MAX - Buffer.byteLength(body)),
  })
}
