import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Derivation, Deriver } from '../../src/derivation/deriver.ts'
import { fixtureOf } from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'

const KERNEL = fixtureOf('hello-key-1', 'kernel')
const LARGE = 1024 * 1024
const WAITING_MAX = 64

let deriver: Deriver
let spent: number[]

beforeEach(() => {
  deriver = new Deriver()
  spent = []
})
afterEach(() => deriver.close())

/** Describes an image of a kernel that declares a target. */
function description(target = 'hvt'): Derivation {
  const layer = {
    mediaType: 'application/vnd.unikernel.kernel.v1',
    digest: digestOf(KERNEL),
    size: KERNEL.length,
  }
  const solo5 = { abi: { target, version: 1 }, manifest: { devices: [] } }
  const facts = { format: 'elf', solo5 }
  const manifest = { schemaVersion: 2, mediaType: IMAGE_MANIFEST, config: layer, layers: [layer] }
  const stored = [
    {
      digest: layer.digest,
      role: 'kernel',
      sha256: null,
      problem: null,
      facts: JSON.stringify(facts),
    },
  ]
  return {
    kind: 'description',
    image: {
      mediaType: IMAGE_MANIFEST,
      manifest: Buffer.from(JSON.stringify(manifest)),
      analyses: JSON.stringify(stored),
      packages: '[]',
    },
  }
}

async function derive(key: string, load: () => Promise<Derivation>, bytes = LARGE) {
  const json = await deriver.derive({ key, bytes, load, spend: (time) => spent.push(time) })
  return JSON.parse(new TextDecoder().decode(json))
}

describe.each([
  ['a large image', LARGE],
  ['a usual image', 1024],
])('the JSON of %s', (_what, bytes) => {
  it('is derived once, also for requests at the same time', async () => {
    let loads = 0
    const load = async () => {
      loads += 1
      return description()
    }
    const results = await Promise.all([derive('a', load, bytes), derive('a', load, bytes)])
    expect(results.map(({ target }) => target)).toEqual(['hvt', 'hvt'])
    expect(await derive('a', load, bytes)).toEqual(results[0])
    expect(await derive('b', async () => description('spt'), bytes)).toMatchObject({
      target: 'spt',
    })
    expect(loads).toBe(1)
    expect(spent).toHaveLength(2)
  })

  it('is derived once for other requests when the first one fails', async () => {
    let fail = (_: Error) => {}
    const first = derive(
      'a',
      () =>
        new Promise((_, reject) => {
          fail = reject
        }),
      bytes,
    )
    let loads = 0
    const load = async () => {
      loads += 1
      return description()
    }
    const others = [derive('a', load, bytes), derive('a', load, bytes)]
    await Promise.resolve()
    fail(new Error('the client left'))
    await expect(first).rejects.toThrow('the client left')
    expect(await Promise.all(others)).toMatchObject([{ target: 'hvt' }, { target: 'hvt' }])
    expect(loads).toBe(1)
  })
})

describe('when many requests wait for a process', () => {
  it('one more is refused, with the time to wait', async () => {
    let go = (_: Derivation) => {}
    const running = derive(
      '0',
      () =>
        new Promise((resolve) => {
          go = resolve
        }),
    )
    const waiting = Array.from({ length: WAITING_MAX }, (_, index) =>
      derive(`${index + 1}`, async () => description()),
    )
    await expect(derive('more', async () => description())).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      data: { retryAfterSeconds: 2 },
    })
    expect(deriver.waiting).toEqual({ analyses: 0, derivations: WAITING_MAX })
    // Files of pushes do not wait for documents.
    const list = Buffer.from('a=1\n'.repeat(19_000) + 'b=2\n'.repeat(900) + '\n'.repeat(LARGE / 16))
    const { analysis, fields } = await deriver.analyze(
      'builder',
      'system-packages',
      digestOf(list) as never,
      list,
    )
    expect(analysis).toMatchObject({ value: undefined, problem: undefined })
    expect(JSON.parse(fields).packages).toHaveLength(2)
    go(description())
    await Promise.all([running, ...waiting])
    expect(deriver.waiting).toEqual({ analyses: 0, derivations: 0 })
  })

  it('facts that are too long are a problem', async () => {
    const text = `opam-version: "2.0" installed: ["a.1"] package "a" { ${Array.from({ length: 60 }, (_, index) => `x-mirage-${index}: "${'\u0001'.repeat(60_000)}"`).join(' ')} }`
    const bytes = Buffer.from(text)
    const { analysis } = await deriver.analyze(
      'builder',
      'opam-switch',
      digestOf(bytes) as never,
      bytes,
    )
    expect(analysis.problem).toMatch(/^its facts have \d+ characters; at most 4194304 are kept$/)
  })
})
