import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { OpenConnections } from '../../src/http/open-connections.ts'
import { RequestBody } from '../../src/http/request-body.ts'

const BODY_MILLISECONDS_MAX = 2_000

let server: Server
let connections: OpenConnections
const cuts: string[] = []

/** The connections of the registry, around a handler whose body may take two seconds instead of minutes or a day. */
beforeAll(async () => {
  server = createServer(async (req, res) => {
    try {
      for await (const _ of new RequestBody(req, res).bytes(BODY_MILLISECONDS_MAX)) {
        // Every chunk is read at once.
      }
      res.end('whole')
    } catch (error) {
      res.statusCode = 408
      res.end(String(error))
    }
  })
  connections = new OpenConnections(server, {
    limits: { total: 100, perClient: 100, slowMilliseconds: 60_000 },
    clientOf: () => 'one',
    onCut: (reason) => cuts.push(reason),
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
})

afterAll(() => connections.drain(100))

it('a body that arrives steadily, and does not end, is answered with 408 after its total time', async () => {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  let answer = ''
  socket.on('data', (chunk) => {
    answer += chunk
  })
  socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n')
  const block = Buffer.alloc(4096)
  const timer = setInterval(() => socket.write(block), 100)
  await expect.poll(() => answer, { timeout: 20_000 }).toContain('408')
  clearInterval(timer)
  expect(answer).toContain('the body took too long to arrive')
  expect(cuts).toEqual(['slow-body'])
  socket.destroy()
}, 30_000)
