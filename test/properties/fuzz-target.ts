import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import fc from 'fast-check'
import { expect } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { basic, type RawAnswer, RawClient, type RawRequest } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

// Deep below a folder of its own, so that the test sees a path that climbs out.
const DATA_PATH = ['a', 'b', 'data']
// Files that a registry may create: keys of blobs, stages, the mark of the installation, and the master key.
const STORE_FILE =
  /^(?:master-key|blobs\/(?:installation|sha256\/[0-9a-f]{2}\/[0-9a-f]{64}\.[0-9a-f-]{45}|sha512\/[0-9a-f]{2}\/[0-9a-f]{128}\.[0-9a-f-]{45})|uploads\/[0-9a-f-]{36})$/
const CODE = /^[A-Z]+(?:_[A-Z]+)*$/

/** A registry that the property tests attack. */
export class FuzzTarget {
  readonly registry: TestRegistry
  readonly #folder: string
  readonly #client: RawClient
  #cases = 0

  private constructor(registry: TestRegistry, folder: string) {
    this.registry = registry
    this.#folder = folder
    this.#client = new RawClient(registry.url)
  }

  static async open(): Promise<FuzzTarget> {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-properties-'))
    const data = join(folder, ...DATA_PATH)
    await mkdir(data, { recursive: true })
    await writeFile(join(folder, 'canary'), 'untouched')
    const registry = await startRegistry({ ROOKERY_DATA_DIR: data, ROOKERY_LOG_LEVEL: 'error' })
    return new FuzzTarget(registry, folder)
  }

  get authorization(): string {
    return basic(this.registry.password)
  }

  /**
   * Sends a request as the administrator, who has all rights. Asserts the properties of every
   * answer.
   */
  async request(request: RawRequest): Promise<RawAnswer> {
    const answer = await this.#client.request({
      ...request,
      headers: { Authorization: this.authorization, ...request.headers },
    })
    this.#cases += 1
    this.expectWellFormedAnswer(request, answer)
    return answer
  }

  expectWellFormedAnswer({ method, target }: RawRequest, answer: RawAnswer): void {
    const { status, headers, body } = answer
    expect(status).toBeGreaterThanOrEqual(200)
    expect(status).toBeLessThan(500)
    if (status < 400) return
    const below = /^(?:https?:\/\/[^/]*)?\/v2(?:[/?]|$)/.test(
      Buffer.from(target).toString('latin1'),
    )
    if (!below) return
    expect(headers.get('content-type')).toMatch(/^application\/json(?:; charset=utf-8)?$/)
    if (method === 'HEAD') return
    const { errors } = JSON.parse(body.toString())
    expect(errors).toHaveLength(1)
    expect(errors[0].code).toMatch(CODE)
    expect(typeof errors[0].message).toBe('string')
  }

  /** Pushes a blob and returns its digest. */
  async push(repository: string, content: Uint8Array): Promise<string> {
    const digest = digestOf(content)
    const target = `/v2/${repository}/blobs/uploads/?digest=${digest}`
    const { status } = await this.request({ method: 'POST', target, body: content })
    expect(status).toBe(201)
    return digest
  }

  /** Stops the registry, and asserts that the folder holds only files that a store makes. */
  async close(): Promise<void> {
    this.#client.close()
    process.stdout.write(`${this.#cases} requests\n`)
    const data = join(this.#folder, ...DATA_PATH)
    const files = await filesBelow(this.#folder)
    const strange = files.filter(
      (file) => file !== 'canary' && !STORE_FILE.test(relative(data, join(this.#folder, file))),
    )
    const errors = this.registry.log.slice()
    await this.registry.close()
    await rm(this.#folder, { recursive: true, force: true })
    expect(strange).toEqual([])
    expect(files).toContain('canary')
    expect(errors).toEqual([])
  }
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
}

/** Runs a property `runs` times; the target counts the cases. */
export async function checkProperty<T>(
  arbitrary: fc.Arbitrary<T>,
  holds: (value: T) => Promise<void>,
  runs: number,
): Promise<void> {
  let last: Promise<void> = Promise.resolve()
  const property = fc.asyncProperty(arbitrary, (value) => {
    last = holds(value)
    return last
  })
  await fc.assert(property, { numRuns: runs, interruptAfterTimeLimit: 20_000 })
  // One case may still run at the time limit, and the next test would read its answer.
  await last
}

const HEX = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

/** Values that have broken servers before, at any place. */
export const HOSTILE = [
  '',
  ' ',
  '.',
  '..',
  '../',
  '../../etc/passwd',
  '..%2f..%2fetc%2fpasswd',
  '%2e%2e%2f',
  '%252e%252e%252f',
  '..\\..\\',
  '/etc/passwd',
  '//',
  '%00',
  'a%00b',
  '\u0000',
  '%',
  '%zz',
  '%c0%ae',
  '%ed%a0%80',
  '%f0%9f%90%a7',
  '\ud800',
  '\ufeff',
  '\u202e',
  'é',
  'ſ',
  'LATEST',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  'null',
  'undefined',
  'NaN',
  'Infinity',
  '-1',
  '-0',
  '0x10',
  '1e3',
  '1.5',
  '00000000000000000001',
  '9007199254740993',
  '9223372036854775808',
  '99999999999999999999999999999999',
  "' or 1=1 --",
  '"; drop table blobs; --',
  '$1',
  '#{7*7}',
  '{{7*7}}',
  '*',
  '?',
  '#',
  '&tag=x',
  ';',
  '<script>',
  `sha256:${HEX}`,
  `sha256:${HEX.toUpperCase()}`,
  `SHA256:${HEX}`,
  `sha256:${HEX.slice(1)}`,
  `sha256:${HEX}0`,
  `sha256:${HEX}\n`,
  `sha256:../../${HEX}`,
  `sha512:${HEX}`,
  `sha512:${HEX}${HEX}`,
  `md5:${HEX.slice(32)}`,
  `sha256-${HEX}`,
  `sha256::${HEX}`,
  'sha256:',
  ':',
  'uploads',
  'blobs/uploads/',
  'a/blobs/uploads/b',
  'tags/list',
  '_catalog',
  '0b5e8a0e-0000-4000-8000-000000000000',
  '0B5E8A0E-0000-4000-8000-000000000000',
  '{0b5e8a0e-0000-4000-8000-000000000000}',
  IMAGE_MANIFEST,
  'text/plain; charset=utf-16',
  'a'.repeat(127),
  'a'.repeat(129),
  'a'.repeat(255),
  'a'.repeat(256),
  'a/'.repeat(127).slice(0, -1),
  'a'.repeat(5000),
  'a-'.repeat(2000),
  '.'.repeat(3000),
] as const

const LATIN1 = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte))

/** Any text: hostile values, pieces of them, and noise. */
export const anyText: fc.Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...HOSTILE) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom(...HOSTILE), fc.constantFrom(...HOSTILE))
      .map((pair) => pair.join('')),
  },
  { weight: 2, arbitrary: fc.string({ maxLength: 60 }) },
  { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }) },
)

/**
 * Replaces half of a surrogate pair, which has no bytes of its own, by the replacement character.
 */
function wellFormed(text: string): string {
  return Buffer.from(text).toString()
}

/** Percent-encodes every byte of a text for a path or a query. */
export function encoded(text: string): string {
  return [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')
}

/** Encodes as a client does, or every byte. */
const ENCODINGS = [(text: string) => encodeURIComponent(wellFormed(text)), encoded] as const
export const validEncoding: fc.Arbitrary<(text: string) => string> = fc.constantFrom(...ENCODINGS)

/** Also without encoding, except for the characters that end the request line. */
export const anyEncoding: fc.Arbitrary<(text: string) => string> = fc.constantFrom(
  ...ENCODINGS,
  (text: string) =>
    Array.from(text, (character) =>
      /[!-~]/.test(character) ? character : encoded(character),
    ).join(''),
)

/** The value of a header as bytes, without control characters, which make the request malformed. */
export const anyHeader: fc.Arbitrary<string> = anyText.map((text) =>
  [...Buffer.from(text)].map((byte) => (byte < 32 || byte === 127 ? '?' : LATIN1[byte])).join(''),
)
