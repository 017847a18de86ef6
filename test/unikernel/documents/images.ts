import { digestOf } from '../../../src/oci/digest.ts'
import type { DocumentContext } from '../../../src/unikernel/documents/context.ts'
import type { UnikernelImage } from '../../../src/unikernel/image.ts'
import { IMAGE_MANIFEST } from '../../support/media-types.ts'
import { fixtureImage } from '../fixture-image.ts'

export const BUILDS = [
  'hello-key-1',
  'hello-key-2',
  'hello-key-3-freebsd-same-output',
  'hello-key-4-same-input-different-output',
] as const

export const CONTEXT: DocumentContext = {
  repository: 'hello/key',
  registry: 'registry.example:5000',
  scheme: 'https',
  digest: digestOf(Buffer.from('a manifest')),
  mediaType: IMAGE_MANIFEST,
  pushedAt: new Date('2026-08-22T10:11:12.345Z'),
  pushedBy: 'token:ci builds',
  version: '0.1.0',
}

const HEX = 'a'.repeat(64)
const URLS = [
  'https://example.org/{a}|b`c^d.tbz',
  'https://user:pass@example.org/%zz[1]#a#b',
  'https://[::1]:8080/x.tar.gz',
  'git+https://github.com/Owner/Repo.git#0123456789abcdef0123456789abcdef01234567',
  'git+ssh://git@example.org/x y'.replace(' ', '%20'),
  'git://example.org/x.git#über',
  'hg+https://example.org/x#tip',
  'darcs+https://example.org/x',
  'file:///tmp/ünïcode',
  '/home/somebody/x',
  '../../../etc/passwd',
  '#',
  'git+#',
  'javascript:alert(1)',
  'https://github.com/../../x/archive/v1.tar.gz',
  'https://github.com/o/r/archive/refs/heads/main.tar.gz',
  `https://example.org/${'%'.repeat(1000)}`,
]

/** A valid switch that nobody would write. */
export const HOSTILE_SWITCH = `
opam-version: "2.0"
roots: ["__proto__.1" "constructor.0" "gone.1"]
pinned: ["x++.1~"]
installed: ["__proto__.1" "constructor.0" "x++.1~" "x--.1" ${URLS.map((_, at) => `"u${at}.1"`).join(' ')}]
package "x++" {
  version: "1~"
  url { src: "git+https://example.org/x?a=b&c=d#e/f" checksum: ["md5=${'b'.repeat(32)}" "sha256=${HEX}" "sha256=${'c'.repeat(64)}"] }
  extra-source "local.patch" { src: "../x.patch" }
  extra-source "script.patch" { src: "javascript:alert(1)" checksum: "md5=${'b'.repeat(32)}" }
  extra-source "a b&c=d.patch" { src: "https://example.org/a<b>" checksum: "sha512=${'d'.repeat(128)}" }
}
${URLS.map((url, at) => `package "u${at}" { version: "1" url { src: "${url}" } }`).join('\n')}
package "__proto__" {
  version: "1"
  x-opam-monorepo-duniverse-dirs: [
    ${URLS.map((url, at) => `["${url}" "dir ${at}/<&'\\"@?#:%"]`).join('\n    ')}
    ["https://example.org/cmdliner-2.1.1.tbz" "constructor" ["sha256=${HEX}"]]
    ["https://example.org/cmdliner-2.1.1.tbz" "toString"]
  ]
  x-orb-dependencies: [
    ["__proto__" ["constructor" "__proto__" "unheard-of" "x++"]]
    ["constructor" ["toString" "x++"]]
    ["x++" ["constructor"]]
    ["toString" []]
  ]
}
`

const PACKAGES = 'A+b=1:2~3-4+b5\nliba:amd64=1\nliba:i386=1\nliba=1\nliba=2\nlibb=0'
const ENVIRONMENT =
  'OS_DISTRIBUTION=De/../Bian?x\nOS_VERSION=../12 &x=y#\n__proto__=1\nSOURCE_DATE_EPOCH=1\nEMPTY=\nX=\u{1F600}"\\\n'

/** Images that are difficult to describe, by the difficulty. */
export async function hardImages(): Promise<ReadonlyMap<string, UnikernelImage>> {
  const hostile = await fixtureImage('hello-key-1', {
    'opam-switch': HOSTILE_SWITCH,
    'system-packages': PACKAGES,
    'build-environment': ENVIRONMENT,
    console: 'a\nb\n',
    script: '#!/bin/sh\n',
  })
  const titles = ['', '\0', '\ud800', 'a\nb', '../../etc/passwd', '<b>&\u2028', 'x'.repeat(5000)]
  const layers = hostile.layers.map((layer, at) => ({
    ...layer,
    title: titles[at % titles.length],
    mediaType: at === 0 ? 'Application/X; a="b"' : layer.mediaType,
    problem: 'it has\nsome \ud800',
  }))
  const [first, ...others] = layers
  const onlyKernel = await fixtureImage('hello-key-1', {
    'opam-switch': null,
    'system-packages': null,
    'build-environment': null,
    'build-hashes': null,
    debug: null,
  })
  return new Map([
    ['hostile words', hostile],
    ['hostile titles', { ...hostile, layers, kernel: { ...hostile.kernel, title: '\ud800\n' } }],
    [
      'the same layer twice',
      { ...hostile, layers: [first, first, ...others].flatMap((x) => x ?? []) },
    ],
    ['nothing but a kernel', onlyKernel],
    [
      'a kernel without a title',
      { ...onlyKernel, kernel: { ...onlyKernel.kernel, title: undefined } },
    ],
    ['no layers', { ...onlyKernel, layers: [] }],
    ['no switch', await fixtureImage('hello-key-2', { 'opam-switch': null })],
    ['no packages', await fixtureImage('hello-key-2', { 'system-packages': null })],
    ['no environment', await fixtureImage('hello-key-2', { 'build-environment': null })],
    ['a switch that is none', await fixtureImage('hello-key-2', { 'opam-switch': 'installed: [' })],
    [
      'Alpine',
      await fixtureImage('hello-key-2', {
        'system-packages': 'musl-1.2.5-r0 x86_64 {musl} (MIT)\n',
      }),
    ],
    [
      'empty lists',
      await fixtureImage('hello-key-2', { 'opam-switch': 'installed: []', 'system-packages': '' }),
    ],
  ])
}

/** All images of the tests, by a name. */
export async function allImages(): Promise<ReadonlyMap<string, UnikernelImage>> {
  const builds = await Promise.all(
    BUILDS.map(
      async (build): Promise<[string, UnikernelImage]> => [build, await fixtureImage(build)],
    ),
  )
  return new Map([...builds, ...(await hardImages())])
}

/** Lists values in a document that JSON would omit or change. */
export function unsayable(value: unknown, at = '$'): string[] {
  if (typeof value === 'string') {
    return /\p{Cs}/u.test(value) || value.includes('\0') ? [at] : []
  }
  if (Array.isArray(value)) return value.flatMap((one, index) => unsayable(one, `${at}[${index}]`))
  if (typeof value === 'object' && value !== null) {
    return Object.entries(value).flatMap(([name, one]) => unsayable(one, `${at}.${name}`))
  }
  return typeof value === 'boolean' || Number.isFinite(value) ? [] : [at]
}
