import type { ServerResponse } from 'node:http'
import type { RouteContext } from './route.ts'

/**
 * Sends `length` bytes, one chunk at a time: the next chunk is asked for when the socket has taken
 * the one before, because its memory is used again. Koa's own body streams would copy or leak.
 */
export async function sendBytes(
  ctx: RouteContext,
  length: number,
  chunks: AsyncIterable<Uint8Array>,
): Promise<void> {
  const { res } = ctx
  ctx.length = length
  let sent = 0
  if (length > 0) {
    for await (const chunk of chunks) {
      // Only now is it known that there are bytes, and that the answer is not an error.
      if (sent === 0) {
        ctx.respond = false
        res.writeHead(res.statusCode)
      }
      sent += chunk.length
      // The last one, too: a connection counts as idle as soon as `end` was called.
      await written(res, chunk)
    }
  }
  ctx.respond = false
  res.end()
}

/** Resolves when the socket took the chunk, and rejects when it never will. */
function written(res: ServerResponse, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const closed = () => reject(new ClientDisconnectedError())
    if (res.destroyed) return closed()
    res.once('close', closed)
    res.write(chunk, (error) => {
      res.off('close', closed)
      if (error) reject(new ClientDisconnectedError(error))
      else resolve()
    })
  })
}

/** The client went away before it had everything: nobody's fault, and nothing to answer. */
export class ClientDisconnectedError extends Error {
  override readonly name = 'ClientDisconnectedError'

  constructor(cause?: unknown) {
    super('the client closed the connection', { cause })
  }
}
