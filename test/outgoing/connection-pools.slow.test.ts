import type { Socket } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { GuardedClient, type GuardedClientOptions } from '../../src/outgoing/client.ts'
import { closing, LOOPBACK, outcome, serve, serveRaw, type TestServer } from './loopback-servers.ts'

const servers: TestServer[] = []
const clients: GuardedClient[] = []

afterEach(async () => {
  vi.useRealTimers()
  for (const client of clients.splice(0)) client.close()
  await Promise.all(servers.splice(0).map((server) => server.close()))
})

async function answering(...given: Parameters<typeof serve>): Promise<[TestServer, string]> {
  const server = await serve(...given)
  servers.push(server)
  return [server, `http://127.0.0.1:${server.port}`]
}

async function speaking(...given: Parameters<typeof serveRaw>): Promise<[TestServer, string]> {
  const server = await serveRaw(...given)
  servers.push(server)
  return [server, `http://127.0.0.1:${server.port}`]
}

function clientOf(options: Partial<GuardedClientOptions> = {}): GuardedClient {
  const client = new GuardedClient({ allowed: LOOPBACK, keepAliveMilliseconds: 5_000, ...options })
  clients.push(client)
  return client
}

const POST = { method: 'POST', body: '{}' } as const
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

describe('connections', () => {
  it('are reused by requests of the same pool and origin only', async () => {
    const [one, url] = await answering((_, response) => response.end('ok'))
    const [other, otherUrl] = await answering((_, response) => response.end('ok'))
    const client = clientOf()
    const ask = async (pool: string | undefined, asked = url) => {
      await client.request(asked, { ...POST, pool })
      await isFree()
    }
    for (const path of ['/a', '/b?c=d', '/a']) await ask('1', `${url}${path}`)
    expect(one.connections()).toBe(1)
    await ask('1', otherUrl)
    expect([one.connections(), other.connections()]).toEqual([1, 1])
    for (const pool of ['2', '2', '1']) await ask(pool)
    expect(one.connections()).toBe(2)
    await ask(undefined)
    await ask(undefined)
    expect(one.connections()).toBe(4)
  })

  it('are not reused without pools', async () => {
    const [server, url] = await answering((_, response) => response.end('ok'))
    const client = new GuardedClient({ allowed: LOOPBACK })
    for (let count = 0; count < 3; count++) await client.request(url, { pool: '1' })
    expect(server.connections()).toBe(3)
  })

  it('are at most eight, and further requests wait for one', async () => {
    let atOnce = 0
    let most = 0
    const [server, url] = await answering((_, response) => {
      atOnce += 1
      most = Math.max(most, atOnce)
      setTimeout(() => {
        atOnce -= 1
        response.end('ok')
      }, 5)
    })
    const client = clientOf()
    const asked = Array.from({ length: 50 }, () => client.request(url, { ...POST, pool: '1' }))
    for (const { status } of await Promise.all(asked)) expect(status).toBe(200)
    expect(most).toBe(8)
    expect(server.connections()).toBe(8)
  })

  it('of a server that hangs do not delay another pool, even of the same server', async () => {
    const [, url] = await answering((request, response) => {
      if (request.url !== '/hangs') response.end('ok')
    })
    const client = clientOf({ requestMilliseconds: 1_000 })
    const hanging = Array.from({ length: 20 }, () =>
      outcome(client, `${url}/hangs`, { ...POST, pool: '1' }),
    )
    expect((await client.request(`${url}/answers`, { ...POST, pool: '2' })).status).toBe(200)
    for (const { message } of await Promise.all(hanging)) expect(message).toContain('took longer')
    expect((await client.request(`${url}/answers`, { ...POST, pool: '1' })).status).toBe(200)
  })

  it('are closed when they are idle for a while, and when the client closes', async () => {
    const sockets: Socket[] = []
    const [, url] = await answering((request, response) => {
      sockets.push(request.socket)
      response.end('ok')
    })
    const idle = clientOf({ keepAliveMilliseconds: 50 })
    await idle.request(url, { pool: '1' })
    await expect.poll(() => sockets[0]?.destroyed).toBe(true)
    const ended = clientOf()
    await ended.request(url, { pool: '1' })
    expect(sockets[1]?.destroyed).toBe(false)
    ended.close()
    await expect.poll(() => sockets[1]?.destroyed).toBe(true)
    expect((await outcome(ended, url, { pool: '1' })).message).toContain('no request to')
  })

  it('are checked when they are opened, and replaced each minute', async () => {
    const [inside] = await answering((_, response) => response.end('inside'))
    const outside = await serve((_, response) => response.end('outside'), '127.0.0.2', inside.port)
    servers.push(outside)
    const means = ['127.0.0.1']
    let lookups = 0
    const client = clientOf({
      allowed: ['127.0.0.1'],
      resolve: async () => {
        lookups += 1
        return means
      },
    })
    const url = `http://receiver.example:${inside.port}/`
    const ask = async () => {
      const result = await outcome(client, url, { ...POST, pool: '1' })
      await isFree()
      return result
    }
    vi.useFakeTimers({ toFake: ['Date'] })
    expect((await ask()).kind).toBe('answered')
    means[0] = '127.0.0.2'
    vi.advanceTimersByTime(59_000)
    expect((await ask()).kind).toBe('answered')
    expect(lookups).toBe(1)
    vi.advanceTimersByTime(2_000)
    expect(await ask()).toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('127.0.0.2'),
    })
    means[0] = '127.0.0.1'
    expect((await ask()).kind).toBe('answered')
    expect([lookups, inside.connections(), outside.connections()]).toEqual([3, 2, 0])
  })

  it('are closed, the least recently used first, when there are too many pools', async () => {
    const open = new Set<Socket>()
    const [server, url] = await answering(({ socket }, response) => {
      open.add(socket)
      socket.once('close', () => open.delete(socket))
      response.end('ok')
    })
    const client = clientOf({ keepAliveMilliseconds: 60_000 })
    for (let pool = 0; pool < 1_050; pool++) await client.request(url, { pool: String(pool) })
    await expect.poll(() => open.size).toBe(1_000)
    expect(server.connections()).toBe(1_050)
  }, 30_000)
})

describe('a server that closes connections', () => {
  it('between two requests causes no failure', async () => {
    const sockets: Socket[] = []
    const [server, url] = await answering((request, response) => {
      sockets.push(request.socket)
      response.end('ok')
    })
    const client = clientOf()
    for (let count = 1; count <= 5; count++) {
      expect((await client.request(url, { ...POST, pool: '1' })).status).toBe(200)
      // At once and without notice: the next request may notice only when it writes.
      sockets.at(-1)?.destroy()
      expect(server.connections()).toBe(count)
    }
  })

  it('on the second request gets that request again on a new connection', async () => {
    let asked = 0
    const [server, url] = await speaking((socket) => {
      let answered = false
      socket.on('data', () => {
        asked += 1
        if (answered) socket.destroy()
        else socket.write(OK)
        answered = true
      })
    })
    const client = clientOf()
    const ask = async () => {
      expect((await client.request(url, { ...POST, pool: '1' })).status).toBe(200)
    }
    for (let count = 0; count < 4; count++) {
      await ask()
      await isFree()
    }
    expect(server.connections()).toBe(4)
    expect(asked).toBe(6)
    // Many at once, with as many connections that look open: each is repeated on a new connection.
    for (let count = 0; count < 4; count++) await Promise.all(Array.from({ length: 8 }, ask))
  })

  it('on every request gets each request at most twice', async () => {
    let asked = 0
    let answers = false
    const [, url] = await speaking((socket) => {
      socket.on('data', () => {
        asked += 1
        if (answers) socket.write(OK)
        else socket.destroy()
      })
    })
    const client = clientOf()
    expect((await outcome(client, url, { ...POST, pool: '1' })).kind).toBe('failed')
    expect(asked).toBe(1)
    answers = true
    expect((await outcome(client, url, { ...POST, pool: '1' })).kind).toBe('answered')
    answers = false
    expect((await outcome(client, url, { ...POST, pool: '1' })).kind).toBe('failed')
    expect(asked).toBe(4)
  })

  it('in the middle of a response does not get the request again', async () => {
    let asked = 0
    const [, url] = await speaking((socket) => {
      socket.on('data', () => {
        asked += 1
        if (asked === 1) socket.write(OK)
        else socket.end('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc')
      })
    })
    const client = clientOf()
    expect((await outcome(client, url, { ...POST, pool: '1' })).kind).toBe('answered')
    expect((await outcome(client, url, { ...POST, pool: '1' })).kind).toBe('failed')
    expect(asked).toBe(2)
  })

  it('as its response announces gets the next request on a new connection', async () => {
    const [server, url] = await answering((_, response) => {
      response.setHeader('connection', 'close').end('ok')
    })
    const client = clientOf()
    for (let count = 1; count <= 3; count++) {
      expect((await client.request(url, { ...POST, pool: '1' })).status).toBe(200)
      expect(server.connections()).toBe(count)
    }
  })
})

describe('in a pool', () => {
  it.each<[string, (socket: Socket) => void]>([
    ['says nothing', () => {}],
    ['sends headers that never end', (socket) => drip(socket, 'HTTP/1.1 200 OK\r\nX: ', 'x')],
    ['sends informational answers for ever', (socket) => drip(socket, '', EARLY_HINTS)],
    ['sends a byte of its body now and then', (socket) => drip(socket, CHUNKED, '1\r\nx\r\n')],
  ])(
    'a request to a server that %s fails at the time limit, and the next one uses a new connection',
    async (_what, speak) => {
      let hangs = true
      const closed: Promise<unknown>[] = []
      const [, url] = await speaking((socket) => {
        closed.push(closing(socket))
        socket.once('data', () => (hangs ? speak(socket) : socket.end(OK)))
      })
      const client = clientOf({ requestMilliseconds: 300 })
      expect(await outcome(client, url, { ...POST, pool: '1' })).toEqual({
        kind: 'failed',
        message: `${url} took longer than 0.3 s`,
      })
      await Promise.all(closed)
      hangs = false
      expect((await outcome(client, url, { ...POST, pool: '1' })).kind).toBe('answered')
    },
  )

  it.each<[string, string]>([
    ['huge headers', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
    ['another protocol', 'SSH-2.0-OpenSSH_9.6\r\n'],
    ['an upgrade', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'],
  ])(
    'a response with %s is a failure, and does not become the response of the next request',
    async (_what, text) => {
      let bad = true
      const [, url] = await speaking((socket) => {
        socket.on('data', () => socket.write(bad ? text : OK))
      })
      const client = clientOf()
      expect((await outcome(client, url, { ...POST, pool: '1' })).kind).toBe('failed')
      bad = false
      expect((await outcome(client, url, { ...POST, pool: '1' })).kind).toBe('answered')
    },
  )

  it('reading an endless body stops at the limit, and its connection is closed', async () => {
    const sockets: Socket[] = []
    const [, url] = await answering(({ url: path, socket }, response) => {
      sockets.push(socket)
      if (path === '/short') {
        response.end('short')
        return
      }
      const write = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536))) {}
      }
      response.on('drain', write)
      write()
    })
    const client = clientOf()
    const rule = { bytesMax: 100_000, oversize: 'truncate', pool: '1' } as const
    expect(await client.request(url, rule)).toMatchObject({ status: 200, truncated: true })
    const { body } = await client.request(`${url}/short`, rule)
    expect(String(body)).toBe('short')
    expect(sockets).toHaveLength(2)
    await expect.poll(() => sockets[0]?.destroyed).toBe(true)
  })

  it('an unsolicited response does not become the response of the next request', async () => {
    const [, url] = await speaking((socket) => {
      socket.on('data', (bytes) => {
        const path = /^\w+ (\S+)/.exec(String(bytes))?.[1] ?? ''
        const text = `HTTP/1.1 200 OK\r\nContent-Length: ${path.length}\r\n\r\n${path}`
        socket.write(`${text}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`)
      })
    })
    const client = clientOf()
    for (const path of ['/first', '/second', '/third']) {
      const { body } = await client.request(`${url}${path}`, { pool: '1' })
      expect(String(body)).toBe(path)
    }
  })

  it('a redirect is the response, and is not followed', async () => {
    const [server, url] = await answering((_, response) => {
      response.writeHead(307, { location: 'http://169.254.169.254/' }).end()
    })
    const client = clientOf()
    expect(await client.request(url, { ...POST, pool: '1' })).toMatchObject({
      status: 307,
      headers: { location: 'http://169.254.169.254/' },
    })
    expect(server.connections()).toBe(1)
  })

  it('an aborted request does not affect the others of its pool', async () => {
    const [, url] = await answering((request, response) => {
      if (request.url !== '/hangs') setTimeout(() => response.end('ok'), 20)
    })
    const client = clientOf()
    const controller = new AbortController()
    const cut = outcome(client, `${url}/hangs`, { ...POST, pool: '1', signal: controller.signal })
    const others = Array.from({ length: 20 }, () => outcome(client, url, { ...POST, pool: '1' }))
    setTimeout(() => controller.abort(), 10)
    expect((await cut).message).toContain('was aborted')
    for (const { kind } of await Promise.all(others)) expect(kind).toBe('answered')
  })

  it('closing the client aborts requests in flight, also those that wait for a connection', async () => {
    const [, url] = await speaking((socket) => socket.resume())
    const client = clientOf()
    const running = Array.from({ length: 20 }, () => outcome(client, url, { ...POST, pool: '1' }))
    await expect.poll(() => servers[0]?.connections()).toBe(8)
    client.close()
    for (const { message } of await Promise.all(running)) expect(message).toContain('was aborted')
  })
})

/** A connection is free in the turn after the last byte of the response. */
const isFree = () => new Promise((resolve) => setImmediate(resolve))

const EARLY_HINTS = 'HTTP/1.1 103 Early Hints\r\n\r\n'
const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'

/** Writes the same chunk until the connection is closed. */
function drip(socket: Socket, first: string, piece: string): void {
  socket.write(first)
  const timer = setInterval(() => socket.write(piece), 20)
  socket.once('close', () => clearInterval(timer))
}
