import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { expectError, newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { desiredUnits, KERNEL, OTHER_KERNEL, report, sendReport, targetOf } from './reporting.ts'
import { rowsOf } from './rows.ts'
import { type RunningUnit, runningUnit } from './running-unit.ts'

let registry: TestRegistry
let unit: RunningUnit
let host: TestHost
let follows: RunningUnit['follows']

beforeAll(async () => {
  registry = await startRegistry()
  unit = await runningUnit(registry)
  ;({ host, follows } = unit)
})
afterAll(() => registry.close())

const pathOf = (one: TestHost, name = 'www') => `/api/v1/hosts/${one.name}/units/${name}`

/** A form as a client without a library writes it. */
function form(
  parts: readonly string[],
  boundary = 'b',
): { headers: Record<string, string>; body: string } {
  return {
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
    body: `${parts.map((part) => `--${boundary}\r\n${part}\r\n`).join('')}--${boundary}--\r\n`,
  }
}

const field = (name: string, value: string) =>
  `Content-Disposition: form-data; name="${name}"\r\n\r\n${value}`

const fieldsOf = (fields: Record<string, string>) =>
  Object.entries({
    ...{ follows: JSON.stringify(follows), bootId: 'boot-1', sequence: '100', state: 'absent' },
    ...fields,
  }).map(([name, value]) => field(name, value))

describe('a report of somebody else', () => {
  it('is refused: of another host, of an administrator, of nobody', async () => {
    const other = await enrolHost(registry)
    const before = await unit.row()
    const init = {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ follows, bootId: 'x', sequence: 1, state: 'failed' }),
    }
    await expectError(await other.request(pathOf(host), init), 403, 'DENIED')
    await expectError(await registry.request(pathOf(host), init), 403, 'DENIED')
    await expectError(await registry.anonymous(pathOf(host), init), 401, 'UNAUTHORIZED')
    for (const method of ['DELETE']) {
      await expectError(await other.request(pathOf(host), { method }), 403, 'DENIED')
      await expectError(await registry.request(pathOf(host), { method }), 403, 'DENIED')
    }
    await expectError(await other.request(`/api/v1/hosts/${host.name}/desired`), 403, 'DENIED')
    expect(await unit.row()).toEqual(before)
  })

  it('about a deployment of another repository changes nothing there', async () => {
    const other = await runningUnit(registry)
    const deployment = await other.granted()
    for (const state of ['failed', 'healthy']) {
      await report(host, { follows, deployment, state, kernel: OTHER_KERNEL })
    }
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'granted' })
    expect(await other.row()).toMatchObject({ state: 'healthy', granted_digest: other.next })
    await report(host, { follows, state: 'healthy', kernel: KERNEL })
  })

  it('of a host that was revoked is refused, and so is its unit', async () => {
    const gone = await enrolHost(registry)
    await report(gone, { follows })
    const path = `/api/v1/hosts/${gone.name}`
    expect((await registry.request(path, { method: 'DELETE' })).status).toBe(204)
    await expectError(await sendReport(gone, { follows }), 401, 'UNAUTHORIZED')
    const units = await rowsOf(registry, 'select 1 from units where host_id = $1', [gone.id])
    expect(units).toEqual([])
  })
})

describe('a report with an odd', () => {
  it.each([
    ['negative sequence', { sequence: -1 }],
    ['fractional sequence', { sequence: 1.5 }],
    ['sequence of 2^53', { sequence: 2 ** 53 }],
    ['sequence of 1e300', { sequence: 1e300 }],
    ['sequence that is a text', { sequence: '7' }],
    ['sequence that is a list', { sequence: [7] }],
    ['boot of 65 characters', { bootId: 'b'.repeat(65) }],
    ['boot with a NUL', { bootId: 'a\u0000b' }],
    ['boot with a line end', { bootId: 'a\nb' }],
    ['exit code of 2^31', { exit: { code: 2 ** 31 } }],
    ['fractional exit code', { exit: { code: 0.5 } }],
    ['meaning of more than a KiB', { exit: { code: 1, meaning: 'x'.repeat(1025) } }],
    ['time', { since: 'yesterday' }],
    ['time of the year 275760', { since: '+275760-09-13T00:00:00Z' }],
    ['message that is an object', { message: {} }],
    ['log that is a text', { log: 'text' }],
    ['list of devices', { devices: Array.from({ length: 65 }, (_, at) => `net:d${at}`) }],
    ['ABI', { tenders: [{ target: 'hvt', abi: 2 ** 53 }] }],
    ['negative ABI', { tenders: [{ target: 'hvt', abi: -2 }] }],
    ['agent of 101 characters', { agent: 'x'.repeat(101) }],
  ])('%s is refused and stores nothing', async (_, fields) => {
    const before = await unit.row()
    await expectError(await sendReport(host, { follows, ...fields }), 400, 'REQUEST_INVALID')
    expect(await unit.row()).toEqual(before)
  })

  it.each([
    ['the largest sequence', { sequence: 2 ** 53 - 1 }],
    ['sequence of minus zero', { sequence: -0 }],
    ['a large ABI', { tenders: [{ target: 'hvt', abi: 2 ** 53 - 1 }] }],
    ['the smallest exit code', { exit: { code: -(2 ** 31) + 1 } }],
    ['a boot named like a property', { bootId: 'constructor' }],
    ['a message of NUL characters', { message: '\u0000\u0000' }],
    ['a message of half a character', { message: 'a\ud800b' }],
    ['a log of half a character', { log: { text: '\udc00' } }],
    ['a log of 16 KiB', { log: { text: 'é'.repeat(8192) } }],
    ['an agent with a terminal escape', { agent: '\u001b[2Jagent' }],
    ['a deployment that does not exist', { deployment: '0268b383-13ae-4a1f-b33c-1bcd327c1d41' }],
  ])('%s is accepted', async (_, fields) => {
    const one = await enrolHost(registry)
    await report(one, { follows, ...fields })
    await report(one, { follows, bootId: 'next' })
  })

  it.each(['a b', '-a', '.', 'a/b', 'a%00b', 'ä', 'x'.repeat(65), '*', '..'])(
    'name of the unit, %j, is refused',
    async (name) => {
      const path = pathOf(host, name === 'a%00b' ? name : encodeURIComponent(name))
      const body = JSON.stringify({ follows, bootId: 'x', sequence: 1, state: 'absent' })
      const headers = { 'content-type': 'application/json' }
      const answer = await host.request(path, { method: 'PUT', headers, body })
      expect([400, 404, 405]).toContain(answer.status)
      expect((await desiredUnits(host)).map((one) => one.name)).toEqual(['www'])
    },
  )

  it('time in the future is stored as now', async () => {
    await report(host, { follows, since: '2999-01-01T00:00:00Z' })
    const { since } = (await unit.row()) as { since: Date }
    expect(since.getTime()).toBeLessThanOrEqual(Date.now() + 1000)
    await report(host, { follows, since: '0001-01-01T00:00:00Z' })
    const shown = await registry.request(`/api/v1/hosts/${host.name}`)
    expect(shown.status).toBe(200)
  })

  it('repository of a foreign pattern is refused, also later', async () => {
    const one = await enrolHost(registry, { repositories: [follows.repository] })
    await report(one, { follows })
    const foreign = { repository: newRepository(), tag: 'live' }
    await expectError(await sendReport(one, { follows: foreign }), 403, 'DENIED')
    expect(await desiredUnits(one)).toMatchObject([follows])
  })
})

describe('a form', () => {
  const put = (init: { headers: Record<string, string>; body: string | Uint8Array }) =>
    host.request(pathOf(host), { method: 'PUT', ...init, body: init.body as string })

  it.each<[string, () => { headers: Record<string, string>; body: string }]>([
    [
      'without a boundary',
      () => ({ ...form(fieldsOf({})), headers: { 'content-type': 'multipart/form-data' } }),
    ],
    ['that ends early', () => ({ ...form([]), body: `--b\r\n${field('bootId', 'x')}` })],
    ['with a field twice', () => form([...fieldsOf({}), field('state', 'failed')])],
    ['with an unknown field', () => form(fieldsOf({ status: 'x' }))],
    ['with a field of prototypes', () => form(fieldsOf({ __proto: 'x' }))],
    ['with __proto__', () => form([...fieldsOf({}), field('__proto__', '{"state":"failed"}')])],
    [
      'with another file',
      () =>
        form([
          ...fieldsOf({}),
          `${field('core', 'x').replace('"core"', '"core"; filename="core"')}`,
        ]),
    ],
    ['whose follows is no JSON', () => form(fieldsOf({ follows: '{' }))],
    ['whose follows is a list', () => form(fieldsOf({ follows: '[]' }))],
    ['whose follows is null', () => form(fieldsOf({ follows: 'null' }))],
    ['whose sequence is a space', () => form(fieldsOf({ sequence: ' ' }))],
    ['whose sequence is hexadecimal', () => form(fieldsOf({ sequence: '0x10' }))],
    ['whose sequence has an exponent', () => form(fieldsOf({ sequence: '1e3' }))],
    ['whose exit is a number', () => form(fieldsOf({ exit: '2' }))],
    [
      'with a log of 16 KiB and a byte',
      () =>
        form([
          ...fieldsOf({}),
          `Content-Disposition: form-data; name="log"; filename="log"\r\n\r\n${'x'.repeat(16_385)}`,
        ]),
    ],
  ])('%s is refused', async (_, make) => {
    const before = await unit.row()
    await expectError(await put(make()), 400, 'REQUEST_INVALID')
    expect(await unit.row()).toEqual(before)
  })

  it('with a log of bytes that are no text stores what is readable', async () => {
    const one = await enrolHost(registry)
    const start = form([
      ...fieldsOf({}),
      'Content-Disposition: form-data; name="log"; filename="l"\r\n\r\n@',
    ])
    const [head = '', tail = ''] = start.body.split('@')
    const log = Buffer.from([
      0x61, 0xff, 0xfe, 0x00, 0x1b, 0x5b, 0x33, 0x31, 0x6d, 0x62, 0xc3, 0x0a,
    ])
    const body = Buffer.concat([Buffer.from(head), log, Buffer.from(tail)])
    const answer = await one.request(pathOf(one), { method: 'PUT', headers: start.headers, body })
    expect(answer.status).toBe(200)
    const logs = await rowsOf(registry, 'select text from unit_logs where host_id = $1', [one.id])
    expect(logs).toEqual([{ text: 'a\ufffd\ufffdb\ufffd\n' }])
  })

  it.each([
    ['no type', {}],
    ['the type of a web form', { 'content-type': 'application/x-www-form-urlencoded' }],
    ['the type text', { 'content-type': 'text/plain' }],
  ])('and JSON need their type: %s is refused', async (_, headers) => {
    const body = Buffer.from(JSON.stringify({ follows, bootId: 'x', sequence: 1, state: 'absent' }))
    const answer = await host.request(pathOf(host), { method: 'PUT', headers, body })
    await expectError(answer, 400, 'REQUEST_INVALID')
  })
})

it('a body of reports that never ends is cut, and nothing is stored', async () => {
  const before = await unit.row()
  const { hostname, port } = new URL(registry.url)
  const socket = connect(Number(port), hostname)
  const token = await host.token()
  socket.write(
    `PUT ${pathOf(host)} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nAuthorization: Bearer ${token}\r\n` +
      'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
  )
  const chunk = `8000\r\n${' '.repeat(0x8000)}\r\n`
  let answer = ''
  socket.on('data', (data) => {
    answer += data
  })
  socket.on('error', () => {})
  for (let sent = 0; sent < 8 && !socket.destroyed; sent += 1) socket.write(chunk)
  await expect.poll(() => answer).toMatch(/^HTTP\/1\.1 413 /)
  socket.destroy()
  expect(await unit.row()).toEqual(before)
})

describe('states out of order', () => {
  it('are stored, and the target follows as far as it can', async () => {
    const one = await runningUnit(registry)
    const deployment = await one.granted()
    const say = (state: string, kernel: string | null) =>
      report(one.host, { follows: one.follows, deployment, state, kernel })
    const becomes = async (state: string) =>
      expect(await targetOf(registry, deployment)).toMatchObject({ state })
    await say('checking', OTHER_KERNEL)
    await becomes('checking')
    await say('fetching', KERNEL)
    await becomes('fetching')
    await say('healthy', `sha256:${'f'.repeat(64)}`)
    await becomes('fetching')
    await say('healthy', null)
    await becomes('fetching')
    await say('healthy', OTHER_KERNEL)
    await becomes('healthy')
    await say('starting', OTHER_KERNEL)
    await becomes('healthy')
    expect(await one.row()).toMatchObject({ state: 'starting' })
    await say('failed', null)
    await becomes('failed')
    await say('healthy', OTHER_KERNEL)
    await becomes('failed')
    expect(await one.row()).toMatchObject({ granted_digest: one.good, failed_digest: one.next })
  })

  it('of a deployment that a newer one replaced change neither', async () => {
    const one = await runningUnit(registry)
    const earlier = await one.granted()
    await rowsOf(
      registry,
      `update deployments set state = 'superseded', finished_at = now(), wake_at = null where id = $1`,
      [earlier],
    )
    const deployment = await one.granted()
    const { follows: its } = one
    await report(one.host, { follows: its, deployment: earlier, state: 'failed', kernel: null })
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'granted' })
    expect(await one.row()).toMatchObject({ granted_digest: one.next, failed_digest: null })
  })

  it('after the unit was removed register it anew', async () => {
    const one = await runningUnit(registry)
    const deployment = await one.granted()
    expect((await one.host.request(pathOf(one.host), { method: 'DELETE' })).status).toBe(204)
    const said = { follows: one.follows, deployment, state: 'healthy', kernel: OTHER_KERNEL }
    const { stale } = await report(one.host, said)
    expect(stale).toBe(false)
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'skipped' })
    expect(await one.row()).toMatchObject({ state: 'healthy', kernel: OTHER_KERNEL })
  })
})
