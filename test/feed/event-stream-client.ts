import { type IncomingMessage, request } from 'node:http'
import { expect } from 'vitest'
import { validateEvent } from '../events/event-schema.ts'

/** One block of an event stream. */
export type Block = { readonly id?: string; readonly event?: string; readonly data?: string }

export type Stream = {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  /** The blocks with data, in their order. */
  readonly blocks: Block[]
  readonly comments: string[]
  /** The last id that was received, as a browser keeps it. */
  readonly lastId: string | undefined
  readonly isOver: boolean
  /** Stops reading, and leaves the connection open. */
  pause(): void
  close(): void
}

/** Opens an event stream, and parses it as in HTML, section 9.2.6. */
export async function openStream(
  url: string,
  query = '',
  headers: Record<string, string> = {},
): Promise<Stream> {
  const path = `/api/v1/events${query}`
  const sent = request(new URL(path, url), {
    headers: { accept: 'text/event-stream', ...headers },
    agent: false,
  })
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    sent.on('response', resolve).on('error', reject).end()
  })
  const state = { lastId: undefined as string | undefined, isOver: false }
  const blocks: Block[] = []
  const comments: string[] = []
  let text = ''
  response.setEncoding('utf8')
  response.on('error', () => {})
  response.on('close', () => {
    state.isOver = true
  })
  response.on('data', (chunk: string) => {
    text += chunk
    const parts = text.split('\n\n')
    text = parts.pop() ?? ''
    for (const part of parts) {
      const block = new Map<string, string>()
      for (const line of part.split('\n')) {
        if (line.startsWith(':')) comments.push(line)
        else block.set(line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2))
      }
      const [id, event, data] = ['id', 'event', 'data'].map((name) => block.get(name))
      if (id !== undefined) state.lastId = id
      if (data === undefined) continue
      if (event?.includes('.')) validateEvent(data)
      blocks.push({ ...(id && { id }), ...(event && { event }), data })
    }
  })
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    blocks,
    comments,
    get lastId() {
      return state.lastId
    },
    get isOver() {
      return state.isOver
    },
    pause: () => response.pause(),
    close: () => response.destroy(),
  }
}

/** Returns the parsed data of a block. */
export const dataOf = ({ data }: Block) => JSON.parse(data ?? '')

/** Returns the subject of every image event that was received, such as `repository:tag`. */
export const subjects = ({ blocks }: Stream): string[] =>
  blocks.filter(({ event }) => event?.startsWith('image.')).map((block) => dataOf(block).subject)

/** Waits until the stream has at least `count` blocks. */
export async function waitForBlocks({ blocks }: Stream, count: number): Promise<void> {
  await expect.poll(() => blocks.length, { timeout: 20_000 }).toBeGreaterThanOrEqual(count)
}
