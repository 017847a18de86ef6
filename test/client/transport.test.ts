import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { RegistryUnreachableError } from '../../src/client/errors.ts'
import { readBody, Transport } from '../../src/client/transport.ts'
import { FakeRegistry } from './fake-registry.ts'

const ends: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

function transport(host: string, options = {}): Transport {
  const one = new Transport(host, { idleMilliseconds: 300, ...options })
  ends.push(() => one.close())
  return one
}

async function listening(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  ends.push(async () => {
    server.close()
    await once(server, 'close')
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A server that sends the same response to every request, or none. */
function saying(text: string | undefined): Promise<string> {
  return listening(
    createServer((socket) => {
      socket.on('error', () => {})
      socket.resume()
      if (text !== undefined) socket.once('data', () => socket.end(text, 'latin1'))
    }),
  )
}

const ask = (host: string, scheme = 'http') =>
  transport(host).send({ method: 'GET', url: new URL(`${scheme}://${host}/v2/`), headers: {} })

describe('a request without a response', () => {
  it('fails with one line that says what to do', async () => {
    const closed = await listening(createServer())
    await ends.pop()?.()
    const plain = await saying('HTTP/1.1 400 Bad Request\r\n\r\n')
    const wrong: [host: string, scheme: string, right: RegExp][] = [
      [closed, 'http', /^nothing listens at 127\.0\.0\.1:\d+: check host and port$/],
      // The second message on machines without a name server.
      [
        'nowhere.invalid',
        'http',
        /^(host nowhere\.invalid not found|name servers did not answer for nowhere\.invalid)/,
      ],
      [plain, 'https', /does not speak TLS: if that is expected, use --plain-http$/],
      [await saying('\x15\x03\x01\0\x02\x02\x46'), 'http', /omit --plain-http$/],
      [await saying(''), 'http', /^the connection to 127\.0\.0\.1:\d+ broke: [^\n]+$/],
      [await saying(undefined), 'http', /^127\.0\.0\.1:\d+ did not answer in time$/],
    ]
    for (const [host, scheme, right] of wrong) {
      const asked = ask(host, scheme)
      await expect(asked, host).rejects.toThrow(right)
      await expect(asked).rejects.toBeInstanceOf(RegistryUnreachableError)
    }
  })

  it('fails also when the body breaks off', async () => {
    const host = await saying('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc')
    await expect(readBody(await ask(host), 100)).rejects.toThrow(/broke/)
  })

  it('fails when the body is larger than allowed', async () => {
    const host = await saying('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789')
    await expect(readBody(await ask(host), 9)).rejects.toThrow(/more than 9 bytes/)
  })
})

describe('a proxy of the environment', () => {
  it('is used, except for excluded hosts and this machine', async () => {
    const registry = await FakeRegistry.open()
    ends.push(() => registry.close())
    const tunnels: string[] = []
    const proxy = createHttpServer().on('connect', (request, socket) => {
      tunnels.push(request.url ?? '')
      const [host, port] = registry.host.split(':')
      const through = connect(Number(port), host, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        through.pipe(socket).pipe(through)
      })
      through.on('error', () => {})
      socket.on('error', () => {})
    })
    const environment = { HTTP_PROXY: `http://${await listening(proxy)}` }
    const url = new URL('http://registry.invalid/v2/')
    const request = { method: 'GET', url, headers: {} } as const
    const answer = await transport('registry.invalid', { environment }).send(request)
    expect(answer.status).toBe(404)
    expect(tunnels).toEqual(['registry.invalid:80'])
    const excepted = { ...environment, no_proxy: 'other.invalid,registry.invalid' }
    const direct = transport('registry.invalid', { environment: excepted }).send(request)
    await expect(direct).rejects.toThrow(/host registry\.invalid not found/)
    const here = new URL(`http://${registry.host}/v2/`)
    await transport(registry.host, { environment }).send({ ...request, url: here })
    expect(tunnels).toHaveLength(1)
  })
})
