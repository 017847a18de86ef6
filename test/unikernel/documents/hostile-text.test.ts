import { Spec, Validation } from '@cyclonedx/cyclonedx-library'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cycloneDx } from '../../../src/unikernel/documents/cyclonedx.ts'
import { slsaProvenance } from '../../../src/unikernel/documents/slsa.ts'
import { spdx } from '../../../src/unikernel/documents/spdx.ts'
import type { UnikernelImage } from '../../../src/unikernel/image.ts'
import { fixtureImage } from '../fixture-image.ts'
import { CONTEXT, unsayable } from './images.ts'
import { spdxErrors } from './spdx-rules.ts'

const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot6)

const word = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.string({ unit: 'grapheme-ascii', maxLength: 30 }),
  fc.constantFrom('', '.', '..', '/', '%', '#', 'constructor', '__proto__'),
)
const address = fc
  .tuple(
    fc.constantFrom(
      '',
      'http://[',
      'https://example.org/x-1',
      'https://github.com/o/r/archive/refs/tags/',
      'git+https://github.com/o/r.git#',
      'git+ssh://',
    ),
    word,
    fc.constantFrom('', '#', '.tbz'),
  )
  .map((parts) => parts.join(''))

const quoted = (text: string) =>
  `"${text.replaceAll('\\', String.raw`\\`).replaceAll('"', String.raw`\"`)}"`

type Source = { readonly url: string; readonly name: string }

function switchOf(sources: readonly Source[]): string {
  const packages = sources.map((_, at) => `"u${at}.1"`).join(' ')
  const folders = sources.map(({ url, name }) => `[${quoted(url)} ${quoted(name)}]`).join(' ')
  const sections = sources.map(
    ({ url, name }, at) => `package "u${at}" {
      version: "1"
      url { src: ${quoted(url)} }
      extra-source ${quoted(name)} { src: ${quoted(url)} }
    }`,
  )
  return `roots: ["a.1"] installed: ["a.1" ${packages}] pinned: [${packages}]
    package "a" { version: "1" x-opam-monorepo-duniverse-dirs: [${folders}] }
    ${sections.join('\n')}`
}

async function expectValid(image: UnikernelImage): Promise<void> {
  const bom = cycloneDx(image, CONTEXT)
  const document = spdx(image, CONTEXT)
  const statement = slsaProvenance(image, CONTEXT)
  expect([bom, document, statement].flatMap((one) => unsayable(one))).toEqual([])
  expect(await validator.validate(JSON.stringify(bom))).toBeNull()
  expect(spdxErrors(JSON.parse(JSON.stringify(document)))).toEqual([])
  const uris = JSON.stringify(statement).matchAll(/"(?:uri|downloadLocation)":"([^"]*)"/g)
  // RFC 3986: what may stand in a URI.
  for (const [, uri] of uris) {
    expect(uri).toMatch(/^[a-z+]+:(?:[A-Za-z0-9\-._~:/?@!$&'()*+,;=#[\]]|%[0-9A-Fa-f]{2})+$/)
  }
}

describe('the documents of an image', () => {
  it('are valid whatever addresses, folders, files and variables are called', async () => {
    const sources = fc.array(fc.record({ url: address, name: word }), { maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(sources, word, word, word, async (all, distribution, version, title) => {
        const image = await fixtureImage('hello-key-1', {
          'opam-switch': switchOf(all),
          'system-packages': 'bash=5.2\n',
          'build-environment': `OS_DISTRIBUTION=${distribution}\nOS_VERSION=${version}\n`,
        })
        expect(image.opamSwitch).toBeDefined()
        const layers = image.layers.map((layer) => ({ ...layer, title }))
        await expectValid({ ...image, layers, kernel: { ...image.kernel, title } })
      }),
    )
  })
})
