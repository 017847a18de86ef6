import type { ServerResponse } from 'node:http'
import type { RouteContext } from './route.ts'

/**
 * Sends `length` bytes, one chunk at a time. It requests the next chunk after the socket accepted the
 * previous one, because the store reuses the memory of chunks. Koa's body streams would copy or leak.
 * Throws ClientDisconnectedError.
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
      // Until the first chunk arrives, reading may fail and the response become an error.
      if (sent === 0) {
        ctx.respond = false
        res.writeHead(res.statusCode)
      }
      sent += chunk.length
      // Also for the last chunk: a connection counts as idle as soon as `end` is called.
      await written(res, chunk)
      ctx.state.bytesSent = sent
    }
  }
  ctx.respond = false
  res.end()
}

/** Resolves when the socket accepted the chunk, and rejects when the connection is closed. */
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

/** The client closed the connection before the end of the response. It is neither answered nor reported. */
export class ClientDisconnectedError extends Error {
  override readonly name = 'ClientDisconnectedError'

  constructor(cause?: unknown) {
    super('the client closed the connection', { cause })
  }
}
