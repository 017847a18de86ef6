/** The receivers of webhooks and the clients of the feed for events.ts, in a process of their own. */
import { connect, createServer, type Socket } from 'node:net'

/** An order of the benchmark. Every order is answered with a ReceivedReport. */
export type ListenerOrder =
  | { order: 'receivers' }
  | { order: 'clients'; origin: string; path: string; count: number }
  | { order: 'report' }
  | { order: 'clear' }

/** The times at which each event was received: milliseconds since the epoch, with fractions. */
export type ReceivedReport = {
  port: number
  /** Times by the tag of the event. */
  posts: Record<string, number[]>
  lines: Record<string, number[]>
  /** The number of POSTs, and the times of the first and the last. */
  count: number
  first: number
  last: number
}

const now = () => performance.timeOrigin + performance.now()
const TAG = /"tag":"([^"]+)"/
const CLIENTS_AT_ONCE = 50

let posts: Record<string, number[]> = {}
let lines: Record<string, number[]> = {}
let [count, first, last, port] = [0, 0, 0, 0]
const streams: Socket[] = []

function record(received: Record<string, number[]>, tag: string, at: number): void {
  const times = received[tag] ?? []
  times.push(at)
  received[tag] = times
}

/**
 * Starts a receiver that uses little CPU, because on a machine with few cores the registry loses what it
 * uses. It reads requests as the registry sends them, with a Content-Length.
 */
async function startReceivers(): Promise<void> {
  const server = createServer((socket) => {
    let text = ''
    socket.setNoDelay(true)
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      for (;;) {
        const head = text.indexOf('\r\n\r\n')
        if (head === -1) return
        const length = Number(/content-length: (\d+)/i.exec(text.slice(0, head))?.[1] ?? 0)
        const end = head + 4 + length
        if (text.length < end) return
        const at = now()
        const tag = TAG.exec(text.slice(head, end))?.[1] ?? ''
        text = text.slice(end)
        record(posts, tag, at)
        first ||= at
        last = at
        count += 1
        socket.write('HTTP/1.1 204 No Content\r\n\r\n')
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as { port: number }).port
}

/** Opens a stream. Resolves when the answer has begun. */
function follow(origin: string, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const { hostname, port: at } = new URL(origin)
    const socket = connect(Number(at), hostname, () => {
      socket.write(`GET ${path} HTTP/1.1\r\nHost: ${hostname}\r\nAccept: text/event-stream\r\n\r\n`)
    })
    streams.push(socket)
    socket.on('error', reject)
    socket.on('data', (chunk) => {
      const text = chunk.toString('latin1')
      if (text.startsWith('HTTP/1.1 ')) {
        if (text.startsWith('HTTP/1.1 200')) resolve()
        else reject(new Error(text.slice(0, 300)))
      }
      const tag = TAG.exec(text)?.[1]
      if (tag !== undefined) record(lines, tag, now())
    })
  })
}

async function handle(order: ListenerOrder): Promise<void> {
  if (order.order === 'receivers') await startReceivers()
  if (order.order === 'clear') {
    posts = {}
    lines = {}
    ;[count, first, last] = [0, 0, 0]
  }
  if (order.order === 'clients') {
    for (let opened = 0; opened < order.count; opened += CLIENTS_AT_ONCE) {
      const many = Math.min(CLIENTS_AT_ONCE, order.count - opened)
      await Promise.all(Array.from({ length: many }, () => follow(order.origin, order.path)))
    }
  }
  const report: ReceivedReport = { port, posts, lines, count, first, last }
  process.send?.(report)
}

process.on('message', (order: ListenerOrder) => {
  handle(order).catch((error) => {
    console.error(error)
    process.exit(1)
  })
})
process.on('disconnect', () => process.exit(0))
