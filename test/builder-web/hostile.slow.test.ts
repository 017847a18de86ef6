import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { encodeExec, integer, runOf, sequence, sha256, tlv, utf8 } from './exec.ts'

const JOB = 'hostile'
const RUN = { ...runOf('hello-key-1'), job: JOB }
const WHOLE = encodeExec(RUN)
/** Where the outputs begin: the rest of the exec is its description. */
const DESCRIPTION = encodeExec({ ...RUN, outputs: [] })
const SMALL = { ...RUN, outputs: [['README.md', Buffer.from('hello')]] as const }

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_BUILDER_WEB: 'on' })
})
afterAll(() => registry.close())

const send = (body: Buffer | ReadableStream) =>
  registry.request('/upload', {
    method: 'POST',
    body: Buffer.isBuffer(body) ? new Uint8Array(body) : body,
    ...(Buffer.isBuffer(body) ? {} : { duplex: 'half' }),
  } as RequestInit)

async function expectRefusal(body: Buffer, reason: RegExp): Promise<void> {
  const answer = await send(body)
  const text = await answer.text()
  expect({ status: answer.status, text }).toMatchObject({ status: 400 })
  expect(text).toMatch(reason)
}

/** No build is there, whether the repository is or not. */
async function expectNoBuild(): Promise<void> {
  const { builds = [] } = (await (await registry.anonymous(`/job/${JOB}/failed`)).json()) as {
    builds?: unknown[]
  }
  expect(builds).toEqual([])
}

/** Parts of an exec, each of which a test replaces. */
function partsOf(replaced: Partial<Record<keyof typeof PARTS, Buffer>> = {}): Buffer {
  return tlv(0xa0, sequence(...Object.values({ ...PARTS, ...replaced })))
}
const TIME = tlv(0x18, '20260520180011Z')
const PARTS = {
  job: sequence(utf8(JOB), utf8('true'), sequence(), utf8('debian-12')),
  uuid: utf8(Buffer.alloc(16, 7)),
  console: sequence(),
  times: sequence(TIME, TIME),
  result: tlv(0xa0, integer(0)),
  outputs: sequence(),
}
const file = (path: string, bytes = 'x') => sequence(utf8(path), utf8(bytes))
/** An element that claims to be longer than what follows. */
const claiming = (tag: number, length: bigint, content = Buffer.alloc(0)) => {
  const digits = Buffer.alloc(8)
  digits.writeBigUInt64BE(length)
  return Buffer.concat([Buffer.from([tag, 0x88]), digits, content])
}

describe('a body that is no exec', () => {
  it.each([
    ['nothing', Buffer.alloc(0), /is cut off/],
    ['text', Buffer.from('hello'), /must have the tag 0xa0, not 0x68/],
    ['the reserved choice', tlv(0xa1, Buffer.from([5, 0])), /must have the tag 0xa0, not 0xa1/],
    ['an indefinite length', Buffer.from([0xa0, 0x80, 0x30, 0x80]), /an indefinite length/],
    ['a length of 126 bytes', Buffer.from([0xa0, 0xfe, ...Array(126).fill(1)]), /length of 126/],
    ['a length of 2^63', claiming(0xa0, 2n ** 63n), /an impossible length/],
    ['two lengths that disagree', claiming(0xa0, 99n, claiming(0x30, 2n ** 40n)), /disagree/],
    [
      'depth',
      Array(5000)
        .fill(0)
        .reduce((inner: Buffer) => sequence(inner), Buffer.alloc(0)),
      /0xa0/,
    ],
    ['a deep job', partsOf({ job: sequence(sequence(sequence(sequence()))) }), /name of the job/],
    [
      'a part too many',
      partsOf({ outputs: Buffer.concat([sequence(), sequence()]) }),
      /parts have/,
    ],
    ['bytes after it', Buffer.concat([partsOf(), Buffer.from('x')]), /bytes follow its end/],
    ['a short uuid', partsOf({ uuid: utf8('short') }), /uuid must have 16 bytes/],
    ['a long uuid', partsOf({ uuid: utf8(Buffer.alloc(1000)) }), /may have at most 64/],
    ['a month 13', partsOf({ times: sequence(tlv(0x18, '20261320180011Z'), TIME) }), /is no time/],
    ['another result', partsOf({ result: tlv(0xa4, integer(0)) }), /the result must have the tag/],
    [
      'an integer of 9 bytes',
      partsOf({ result: tlv(0xa0, tlv(2, Buffer.alloc(9))) }),
      /1 to 8 bytes/,
    ],
    ['an empty integer', partsOf({ result: tlv(0xa0, tlv(2)) }), /1 to 8 bytes/],
    [
      'a negative time',
      partsOf({ console: sequence(sequence(integer(-1), utf8('x'))) }),
      /negative/,
    ],
    [
      'a line with more',
      partsOf({ console: sequence(sequence(integer(1), utf8(''), utf8(''))) }),
      /follow/,
    ],
    [
      'a huge console',
      partsOf({ console: sequence(utf8(Buffer.alloc(17 * 2 ** 20))) }),
      /at most 16777216/,
    ],
    [
      'a huge script',
      partsOf({ job: sequence(utf8(JOB), utf8(Buffer.alloc(2 ** 21 - 99)), sequence()) }),
      /script may have/,
    ],
    [
      'a job without a name',
      partsOf({ job: sequence(utf8(''), utf8(''), sequence()) }),
      /1 to 255/,
    ],
    [
      'a job that is no UTF-8',
      partsOf({ job: sequence(utf8(Buffer.from([0xff])), utf8(''), sequence()) }),
      /UTF-8/,
    ],
    [
      'a platform that is no word',
      partsOf({ job: sequence(utf8(JOB), utf8(''), sequence(), utf8('a b')) }),
      /platform/,
    ],
    ['a path upwards', partsOf({ outputs: sequence(file('../x')) }), /must be relative/],
    ['an absolute path', partsOf({ outputs: sequence(file('/etc/passwd')) }), /must be relative/],
    ['a path with a dot', partsOf({ outputs: sequence(file('bin/./x')) }), /must be relative/],
    ['a path with a backslash', partsOf({ outputs: sequence(file('bin\\x')) }), /must be relative/],
    ['a path with a NUL', partsOf({ outputs: sequence(file('bin/\0')) }), /must be relative/],
    ['a long path', partsOf({ outputs: sequence(file('a'.repeat(1025))) }), /at most 1024/],
    ['a path twice', partsOf({ outputs: sequence(file('a'), file('a')) }), /there twice/],
    [
      'a file beyond the outputs',
      partsOf({ outputs: sequence(tlv(0x30).fill(9, 1)) }),
      /longer than/,
    ],
    [
      'too many files',
      partsOf({ outputs: sequence(...Array.from({ length: 1001 }, (_, i) => file(`f${i}`, ''))) }),
      /more than 1000/,
    ],
  ] as const)(
    '%s is refused with the reason',
    async (_title, body, reason) => {
      await expectRefusal(body, reason)
      await expectNoBuild()
    },
    60_000,
  )

  it('is refused wherever it is cut off, and leaves nothing', async () => {
    const whole = encodeExec(SMALL)
    for (let end = 1; end < whole.length; end += end < 60 ? 3 : 29) {
      await expectRefusal(whole.subarray(0, end), /is cut off/)
    }
    await expectRefusal(WHOLE.subarray(0, WHOLE.length - 1), /is cut off/)
    await expectNoBuild()
    const [, kernel] = RUN.outputs.at(-1) ?? []
    const blob = `/v2/${JOB}/blobs/sha256:${sha256(kernel ?? Buffer.alloc(0))}`
    expect((await registry.request(blob, { method: 'HEAD' })).status).toBe(404)
    const [, first] = RUN.outputs[0] ?? []
    const other = `/v2/${JOB}/blobs/sha256:${sha256(first ?? Buffer.alloc(0))}`
    expect((await registry.request(other, { method: 'HEAD' })).status).toBe(404)
  }, 120_000)

  it('with a length of terabytes takes memory for the bytes that it has', async () => {
    const claimed = 2n ** 44n
    const head = DESCRIPTION.subarray(8, DESCRIPTION.length - 2)
    const outputs = claiming(0x30, claimed)
    const length = BigInt(head.length + outputs.length) + claimed
    const inner = claiming(0x30, length, Buffer.concat([head, outputs]))
    const before = process.memoryUsage().rss
    await expectRefusal(claiming(0xa0, length + 10n, inner), /is cut off/)
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 2 ** 20)
  })
})

describe('a large exec', () => {
  it('with a million lines of console is taken, while others are served', async () => {
    const line = sequence(integer(1_000_000), utf8('x'))
    const console = sequence(Buffer.concat(Array(1_000_000).fill(line)))
    const job = sequence(utf8('lines'), utf8('true'), sequence(), utf8('debian-12'))
    const result = tlv(0xa0, integer(1))
    const sending = send(partsOf({ job, console, result }))
    let slowest = 0
    let isDone = false
    const watching = (async () => {
      while (!isDone) {
        const started = performance.now()
        await registry.anonymous('/livez')
        slowest = Math.max(slowest, performance.now() - started)
      }
    })()
    const answer = await sending
    isDone = true
    await watching
    expect(await answer.text()).toBe('')
    expect(answer.status).toBe(201)
    expect(slowest).toBeLessThan(3_000)
    const text = await registry.anonymous(`${answer.headers.get('location')}/console`)
    expect((await text.text()).length).toBe(1_000_000 * '0.001s:x\n'.length)
  }, 120_000)

  it('with lengths that are longer than needed is the same exec', async () => {
    const long = (tag: number, content: Buffer) =>
      claiming(tag, BigInt(content.length), Buffer.from(content))
    const outputs = long(0x30, long(0x30, Buffer.concat([long(0x0c, Buffer.from('a')), utf8('b')])))
    const job = sequence(utf8('long'), utf8('true'), sequence(), utf8('debian-12'))
    const inner = Buffer.concat(Object.values({ ...PARTS, job, outputs }))
    expect((await send(long(0xa0, long(0x30, inner)))).status).toBe(201)
    const exec = await registry.anonymous(
      '/job/long/build/07070707-0707-0707-0707-070707070707/exec',
    )
    const shortest = partsOf({ job, outputs: sequence(file('a', 'b')) })
    expect(Buffer.from(await exec.arrayBuffer()).equals(shortest)).toBe(true)
  })

  it('that arrives in pieces of one byte is taken', async () => {
    const body = encodeExec({ ...SMALL, job: 'pieces' })
    let at = 0
    const stream = new ReadableStream({
      pull(controller) {
        if (at >= 900 || at >= body.length) {
          controller.enqueue(new Uint8Array(body.subarray(at)))
          controller.close()
        } else {
          controller.enqueue(new Uint8Array(body.subarray(at, at + 1)))
          at += 1
        }
      },
    })
    expect((await send(stream)).status).toBe(201)
  })
})
