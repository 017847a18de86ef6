import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { eventually } from '../support/eventually.ts'
import { newRepository, OCTETS, pushBlob } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_LOG_LEVEL: 'debug' })
})

afterAll(() => registry.close())

beforeEach(() => {
  registry.log.length = 0
})

type Line = Record<string, unknown>

/** Returns the line of the answer in the access log. */
async function lineOf(answer: Response): Promise<Line> {
  const requestId = answer.headers.get('x-request-id')
  return eventually(() => {
    const lines = registry.log.map((line) => JSON.parse(line) as Line)
    const found = lines.find((line) => line.msg === 'request' && line.requestId === requestId)
    expect(found).toBeDefined()
    return found as Line
  })
}

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const PARENT = '00f067aa0ba902b7'
const VALID = `00-${TRACE}-${PARENT}-01`

describe('a line of the access log', () => {
  it('has the bytes of the body that was received, and of the one that was sent', async () => {
    const bytes = randomBytes(70_000)
    const repository = newRepository()
    const path = `/v2/${repository}/blobs/uploads/?digest=${digestOf(bytes)}`
    const pushed = await registry.request(path, { method: 'POST', headers: OCTETS, body: bytes })
    expect(await lineOf(pushed)).toMatchObject({
      level: 'info',
      method: 'POST',
      status: 201,
      bytesReceived: 70_000,
      bytesSent: 0,
    })
    const blob = `/v2/${repository}/blobs/${digestOf(bytes)}`
    const pulled = await registry.anonymous(blob)
    await pulled.arrayBuffer()
    const sent = { level: 'debug', status: 200, bytesReceived: 0, bytesSent: 70_000 }
    expect(await lineOf(pulled)).toMatchObject(sent)
    const part = await registry.anonymous(blob, { headers: { range: 'bytes=0-99' } })
    await part.arrayBuffer()
    expect(await lineOf(part)).toMatchObject({ status: 206, bytesSent: 100 })
    const head = await registry.anonymous(blob, { method: 'HEAD' })
    expect(await lineOf(head)).toMatchObject({ status: 200, bytesSent: 0 })
    const missing = await registry.anonymous(`/v2/${repository}/manifests/none`)
    const { length } = await missing.text()
    expect(await lineOf(missing)).toMatchObject({ status: 404, bytesSent: length })
  })

  it('has the bytes of a stream', async () => {
    const leave = new AbortController()
    const answer = await registry.request('/api/v1/events', {
      headers: { accept: 'text/event-stream' },
      signal: leave.signal,
    })
    const reader = answer.body?.getReader()
    const first = await reader?.read()
    leave.abort()
    const { bytesSent } = await lineOf(answer)
    expect(bytesSent).toBeGreaterThanOrEqual(first?.value?.length ?? Number.NaN)
  })

  it.each([
    ['docker/27.1.1 go/go1.21.12', 'docker/27.1.1 go/go1.21.12'],
    ['a\u0085b\u00e9\tc', 'a\\x85b\\xe9\\x09c'],
    ['x'.repeat(5_000), `${'x'.repeat(200)}…`],
    ['push rkc_abcdefgh_ijklmnop now', 'push … now'],
  ])('has the user agent %j, printable, short and without secrets', async (agent, logged) => {
    const answer = await registry.anonymous('/v2/', { headers: { 'user-agent': agent } })
    expect(await lineOf(answer)).toMatchObject({ userAgent: logged })
  })

  it('has no header that authenticates, and no secret of the path', async () => {
    await pushBlob(registry, newRepository())
    const answer = await registry.request('/upload/rku_secret0123456789', {
      method: 'PUT',
      body: 'a kernel',
    })
    expect(await lineOf(answer)).toMatchObject({ path: '…' })
    const log = registry.log.join('')
    expect(log).not.toContain(registry.password)
    expect(log).not.toContain(Buffer.from(`admin:${registry.password}`).toString('base64'))
    expect(log).not.toContain('secret0123456789')
  })
})

describe('the trace of a request', () => {
  it('is that of its traceparent, in the log and in the answer', async () => {
    const answer = await registry.anonymous('/v2/', { headers: { traceparent: VALID } })
    const line = await lineOf(answer)
    expect(line).toMatchObject({
      trace_id: TRACE,
      span_id: expect.stringMatching(/^[0-9a-f]{16}$/),
    })
    expect(line.span_id).not.toBe(PARENT)
    expect(answer.headers.get('traceresponse')).toBe(`00-${TRACE}-${line.span_id}-01`)
  })

  it('is also in a refusal, and in the line of a failure', async () => {
    const headers = { traceparent: `00-${TRACE}-${PARENT}-00` }
    const answer = await registry.anonymous('/api/v1/audit', { headers })
    expect(answer.status).toBe(401)
    const line = await lineOf(answer)
    expect(answer.headers.get('traceresponse')).toBe(`00-${TRACE}-${line.span_id}-00`)
  })

  it('is a new one without a traceparent: the request id without dashes', async () => {
    const answer = await registry.anonymous('/v2/')
    const { trace_id: traceId } = await lineOf(answer)
    expect(traceId).toBe(answer.headers.get('x-request-id')?.replaceAll('-', ''))
    expect(answer.headers.has('traceresponse')).toBe(false)
  })

  it.each([
    ['upper case', VALID.toUpperCase()],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-${PARENT}-01`],
    ['a parent id of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
    ['the forbidden version', `ff-${TRACE}-${PARENT}-01`],
    ['more fields than its version has', `${VALID}-more`],
    ['a later version with a longer flag', `cc-${TRACE}-${PARENT}-011`],
    ['a short trace id', `00-${TRACE.slice(1)}-${PARENT}-01`],
    ['no flags', `00-${TRACE}-${PARENT}`],
    ['flags that are no hexadecimal digits', `00-${TRACE}-${PARENT}-0x`],
    ['two values', `${VALID}, ${VALID}`],
    ['a huge value', `${VALID}${'0'.repeat(10_000)}`],
    ['nothing', ''],
  ])('is a new one for a traceparent with %s', async (_name, traceparent) => {
    const answer = await registry.anonymous('/v2/', { headers: { traceparent } })
    const { trace_id: traceId, span_id: spanId } = await lineOf(answer)
    expect(traceId).toBe(answer.headers.get('x-request-id')?.replaceAll('-', ''))
    expect(answer.headers.get('traceresponse')).toBe(`00-${traceId}-${spanId}-00`)
  })

  it.each([`01-${TRACE}-${PARENT}-01`, `cc-${TRACE}-${PARENT}-03-more-fields`])(
    'is that of a later version: %s',
    async (traceparent) => {
      const answer = await registry.anonymous('/v2/', { headers: { traceparent } })
      const { span_id: spanId } = await lineOf(answer)
      expect(answer.headers.get('traceresponse')).toBe(`00-${TRACE}-${spanId}-01`)
    },
  )
})
