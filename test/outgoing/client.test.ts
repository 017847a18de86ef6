import type { Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { afterEach, expect, it, vi } from 'vitest'
import { GuardedClient, type GuardedClientOptions } from '../../src/outgoing/client.ts'
import { selfSigned } from './certificate.ts'
import {
  closing,
  LOOPBACK,
  opened,
  outcome,
  serve,
  serveRaw,
  type TestServer,
} from './loopback-servers.ts'

const open: TestServer[] = []

afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()))
})

async function answering(...given: Parameters<typeof serve>): Promise<string> {
  const server = await serve(...given)
  open.push(server)
  return `http://127.0.0.1:${server.port}`
}

async function speaking(...given: Parameters<typeof serveRaw>): Promise<string> {
  const server = await serveRaw(...given)
  open.push(server)
  return `http://127.0.0.1:${server.port}`
}

function clientOf(options: Partial<GuardedClientOptions> = {}): GuardedClient {
  return new GuardedClient({ allowed: LOOPBACK, ...options })
}

it('sends a request, and reads the response', async () => {
  const url = await answering(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const { method, url: path, headers } = request
    response.writeHead(201, { 'x-seen': 'yes' })
    response.end(JSON.stringify({ method, path, mark: headers['x-mark'], body: `${chunks}` }))
  })
  const answer = await clientOf().request(`${url}/a/b?c=d#e`, {
    method: 'POST',
    headers: { 'x-mark': 'm' },
    body: 'hello',
  })
  expect(answer).toMatchObject({ status: 201, truncated: false, headers: { 'x-seen': 'yes' } })
  expect(JSON.parse(String(answer.body))).toEqual({
    method: 'POST',
    path: '/a/b?c=d',
    mark: 'm',
    body: 'hello',
  })
})

it.each([301, 302, 303, 307, 308])(
  'does not follow a redirect: %i is the answer',
  async (status) => {
    const paths: (string | undefined)[] = []
    const url = await answering((request, response) => {
      paths.push(request.url)
      response.writeHead(status, { location: 'http://169.254.169.254/latest/meta-data' }).end()
    })
    const answer = await clientOf().request(`${url}/first`)
    expect(answer.status).toBe(status)
    expect(answer.headers.location).toBe('http://169.254.169.254/latest/meta-data')
    expect(paths).toEqual(['/first'])
  },
)

it('refuses or truncates a body that is too long, as requested', async () => {
  const url = await answering((_, response) => response.end('0123456789'))
  for (const [bytesMax, body, truncated] of [
    [11, '0123456789', false],
    [10, '0123456789', false],
    [9, '012345678', true],
    [0, '', true],
  ] as const) {
    const answer = await clientOf().request(url, { bytesMax, oversize: 'truncate' })
    expect({ body: String(answer.body), truncated: answer.truncated }).toEqual({ body, truncated })
    const refused = clientOf().request(url, { bytesMax })
    if (!truncated) await refused
    else await expect(refused).rejects.toThrow(`answered with more than ${bytesMax} bytes`)
  }
})

it('stops reading an endless body at the limit, and closes the connection', async () => {
  let closed = 0
  const url = await answering((_, response) => {
    response.on('close', () => {
      closed += 1
    })
    const write = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536))) {}
    }
    response.on('drain', write)
    write()
  })
  const cut = await clientOf().request(url, { bytesMax: 1_000_000, oversize: 'truncate' })
  expect(cut.body).toHaveLength(1_000_000)
  expect(await outcome(clientOf(), url)).toMatchObject({ kind: 'failed' })
  await expect.poll(() => closed).toBe(2)
})

it('a compressed response is not decompressed, so it cannot grow', async () => {
  const url = await answering((request, response) => {
    response.setHeader('content-encoding', 'gzip')
    response.end(`packed? ${request.headers['accept-encoding']}`)
  })
  expect(String((await clientOf().request(url)).body)).toBe('packed? undefined')
})

it.each<[string, (socket: Socket) => void]>([
  ['never says a word', () => {}],
  [
    'sends headers byte by byte',
    (socket) => {
      const timer = setInterval(() => socket.write('H'), 20)
      socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nX: '))
      socket.once('close', () => clearInterval(timer))
    },
  ],
  [
    'sends a body byte by byte',
    (socket) => {
      const timer = setInterval(() => socket.write('1\r\nx\r\n'), 20)
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
      })
      socket.once('close', () => clearInterval(timer))
    },
  ],
  [
    'says only that it will say something',
    (socket) => {
      const timer = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'), 20)
      socket.once('close', () => clearInterval(timer))
    },
  ],
])('a request to a server that %s fails at the time limit', async (_what, speak) => {
  const closed: Promise<unknown>[] = []
  const url = await speaking((socket) => {
    socket.resume()
    closed.push(closing(socket))
    speak(socket)
  })
  const client = clientOf({ requestMilliseconds: 300 })
  expect(await outcome(client, url)).toEqual({
    kind: 'failed',
    message: `${url} took longer than 0.3 s`,
  })
  await Promise.all(closed)
})

it('a DNS look-up that hangs fails at the time limit', async () => {
  const client = clientOf({ requestMilliseconds: 100, resolve: () => new Promise(() => {}) })
  expect((await outcome(client, 'https://issuer.example/')).message).toContain('took longer')
})

it('connecting has a shorter time limit', async () => {
  const client = clientOf({ connectMilliseconds: 100, resolve: () => new Promise(() => {}) })
  expect((await outcome(client, 'https://issuer.example/')).message).toMatch(
    /^https:\/\/issuer.example did not answer: Connect Timeout/,
  )
})

it('a name without an address, or whose look-up fails, is a failure', async () => {
  const none = clientOf({ resolve: async () => [] })
  expect(await outcome(none, 'https://issuer.example/')).toMatchObject({
    kind: 'failed',
    message: 'https://issuer.example has no address',
  })
  const broken = clientOf({
    resolve: async () => {
      throw new Error('the name server is gone')
    },
  })
  const { kind, message } = await outcome(broken, 'https://issuer.example/path?token=secret')
  expect(kind).toBe('failed')
  expect(message).toBe('https://issuer.example did not answer: the name server is gone')
})

it.each<[string, string]>([
  ['huge headers', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`],
  ['many headers', `HTTP/1.1 200 OK\r\n${'A: b\r\n'.repeat(10_000)}\r\n`],
  ['another protocol', 'SSH-2.0-OpenSSH_9.6\r\n'],
  ['a body that is shorter than said', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc'],
  ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
  ['an upgrade', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'],
  ['nothing at all', ''],
])('a response with %s is a failure', async (_what, text) => {
  const url = await speaking((socket) => {
    socket.once('data', () => socket.end(text))
  })
  const { kind, message } = await outcome(clientOf(), url)
  expect(kind).toBe('failed')
  expect(message).toMatch(/^http:\/\/127\.0\.0\.1:\d+ did not answer: [^\n]+$/)
})

it('a refused connection is a failure', async () => {
  const server = await serve(() => {})
  await server.close()
  expect((await outcome(clientOf(), `http://127.0.0.1:${server.port}/`)).message).toContain(
    'ECONNREFUSED',
  )
})

it('a certificate of an unknown authority is refused, even if the environment allows it', async () => {
  const { key, certificate } = selfSigned('127.0.0.1')
  const tls = createTlsServer({ key, cert: certificate }, (socket) => {
    socket.on('error', () => {})
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
  })
  const server = await opened(tls)
  open.push(server)
  const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED
  for (const value of ['1', '0']) {
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = value
    const { kind, message } = await outcome(clientOf(), `https://127.0.0.1:${server.port}/`)
    expect(kind).toBe('failed')
    expect(message).toContain('self-signed')
  }
  if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
  else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before
  expect(server.connections()).toBe(2)
})

it('closing the client aborts requests in flight, and refuses new ones', async () => {
  const url = await speaking((socket) => socket.resume())
  const client = clientOf()
  const running = outcome(client, url)
  const other = outcome(client, url)
  client.close()
  expect((await running).message).toContain('was aborted')
  expect((await other).kind).toBe('failed')
  expect((await outcome(client, url)).message).toContain('no request to')
})

it('a request whose signal is aborted fails at once, also before it starts', async () => {
  const url = await speaking((socket) => socket.resume())
  const client = clientOf()
  const controller = new AbortController()
  const running = outcome(client, url, { signal: controller.signal })
  controller.abort()
  const given = { kind: 'failed', message: `the request to ${url} was aborted` }
  expect(await running).toEqual(given)
  expect(await outcome(client, url, { signal: controller.signal })).toEqual(given)
})

it('a proxy from the environment is not used', async () => {
  const proxy = await serve((_, response) => response.end('proxy'))
  open.push(proxy)
  const url = await answering((_, response) => response.end('here'))
  const names = ['http_proxy', 'https_proxy', 'all_proxy', 'HTTP_PROXY', 'ALL_PROXY']
  const value = `http://127.0.0.1:${proxy.port}`
  for (const name of [...names, 'NODE_USE_ENV_PROXY']) vi.stubEnv(name, value)
  vi.stubEnv('no_proxy', '')
  for (const pool of [undefined, 'one']) {
    const client = clientOf({ keepAliveMilliseconds: 1_000 })
    expect(String((await client.request(url, { pool })).body)).toBe('here')
    client.close()
  }
  vi.unstubAllEnvs()
  expect(proxy.connections()).toBe(0)
})
