import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { pack } from 'tar-stream'

// Writes an archive as large as opam-repository, to measure its import:
//   npx tsx bench/opam-archive.ts opam.tar.gz test/fixtures/opam-repository/packages/dune/dune.3.24.2/opam
//   /usr/bin/time -v rookery opam import opam.tar.gz

const PACKAGES = 19_000
const [target = 'opam.tar.gz', ...samples] = process.argv.slice(2)

const files = await Promise.all(samples.map((path) => readFile(path, 'utf8')))
const archive = pack()
const written = pipeline(archive, createGzip(), createWriteStream(target))
for (let index = 0; index < PACKAGES; index += 1) {
  const sample = files[index % files.length] ?? ''
  // Each package has an archive of its own.
  const text = sample.replaceAll(/[0-9a-f]{64,128}/g, (hex) =>
    createHash(hex.length === 64 ? 'sha256' : 'sha512')
      .update(`${hex} ${index}`)
      .digest('hex'),
  )
  const name = `package-${index % 4_000}`
  archive.entry({ name: `packages/${name}/${name}.${index}/opam` }, text)
}
archive.finalize()
await written
