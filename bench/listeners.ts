/** The receivers of webhooks and the clients of the feed for events.ts, in a process of their own. */
import { connect, createServer, type Socket } from 'node:net'
import { Connection } from './connection.ts'

/** An order of the benchmark. Every order is answered with a ReceivedReport. */
export type ListenerOrder =
  | { order: 'receivers' }
  /** Opens event streams, or long polls one after the other. */
  | { order: 'clients'; origin: string; path: string; count: number; poll?: true }
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
const TAG = /"tag":"([^"]+)"/g
const CLIENTS_AT_ONCE = 50
/** A server that trusts this machine as its proxy counts the clients by these addresses. */
const ADDRESSES = 200
const POLL_SECONDS = 55
const READ_BYTES = 16 * 1024

let posts: Record<string, number[]> = {}
let lines: Record<string, number[]> = {}
let [count, first, last, port] = [0, 0, 0, 0]
const streams: Socket[] = []
let clients = 0

/** Records the tags of the events in `text`. */
function recordTags(received: Record<string, number[]>, text: string, at: number): void {
  for (const [, tag = ''] of text.matchAll(TAG)) {
    const times = received[tag] ?? []
    times.push(at)
    received[tag] = times
  }
}

/** Returns a header line with the address of the next client. */
function nextAddress(): string {
  clients += 1
  return `X-Forwarded-For: 192.0.2.${1 + (clients % ADDRESSES)}\r\n`
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
        recordTags(posts, text.slice(head, end), at)
        text = text.slice(end)
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
      const headers = `Host: ${hostname}\r\n${nextAddress()}Accept: text/event-stream\r\n`
      socket.write(`GET ${path} HTTP/1.1\r\n${headers}\r\n`)
    })
    streams.push(socket)
    socket.on('error', reject)
    socket.on('data', (chunk) => {
      const text = chunk.toString('latin1')
      if (text.startsWith('HTTP/1.1 ')) {
        if (text.startsWith('HTTP/1.1 200')) resolve()
        else reject(new Error(text.slice(0, 300)))
      }
      recordTags(lines, text, now())
    })
  })
}

/** Polls until the process ends. Resolves after the first answer, which has the cursor. */
async function poll(origin: string, path: string): Promise<void> {
  const connection = await Connection.open(origin, READ_BYTES)
  const headers = nextAddress()
  const ask = async (query: string) => {
    const target = `${path}&${query}`
    const { status, text } = await connection.ask({
      method: 'GET',
      target,
      headers,
      keepText: true,
    })
    if (status !== 200) throw new Error(`${target}: ${status} ${text}`)
    recordTags(lines, text, now())
    const { cursor } = JSON.parse(text) as { cursor: string }
    return `wait=${POLL_SECONDS}&after=${cursor}`
  }
  const continueAfter = async (first: string) => {
    for (let query = first; ; ) query = await ask(query)
  }
  void continueAfter(await ask('n=0')).catch(fail)
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
      const open = order.poll ? poll : follow
      await Promise.all(Array.from({ length: many }, () => open(order.origin, order.path)))
    }
  }
  const report: ReceivedReport = { port, posts, lines, count, first, last }
  process.send?.(report)
}

function fail(error: unknown): void {
  console.error(error)
  process.exit(1)
}

process.on('message', (order: ListenerOrder) => {
  handle(order).catch(fail)
})
process.on('disconnect', () => process.exit(0))
