import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Deployment } from '../../src/client/deployments.ts'

/** The wire of deployments alone, for answers and outages that a real registry gives only by chance. */
export class Wire {
  shown: Deployment | undefined
  polls = 0
  /** Requests that were refused with 503, while it refuses. */
  refused: number | undefined
  #server: Server | undefined
  #waiting: { readonly etag: string; readonly response: ServerResponse }[] = []
  #version = 0
  #port = 0

  get host(): string {
    return `127.0.0.1:${this.#port}`
  }

  async open(): Promise<void> {
    this.#server = createServer(({ url = '', headers }, response) => {
      if (this.refused !== undefined) {
        this.refused += 1
        return response.writeHead(503).end()
      }
      if (/\/deployments\?/.test(url)) {
        return this.#send(response, { deployments: this.shown === undefined ? [] : [this.shown] })
      }
      if (this.shown === undefined || !url.startsWith(`/api/v1/deployments/${this.shown.id}`)) {
        return response.writeHead(404).end('{"errors":[{"code":"NAME_UNKNOWN"}]}')
      }
      this.polls += 1
      const etag = headers['if-none-match']
      if (etag === this.#etag && url.includes('wait=')) this.#waiting.push({ etag, response })
      else this.#send(response, this.shown)
    }).listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  async close(): Promise<void> {
    const closed = once(this.#server as Server, 'close')
    this.#server?.close()
    this.#server?.closeAllConnections()
    this.#waiting = []
    await closed
  }

  change(shown: Deployment): void {
    this.shown = shown
    this.#version += 1
    for (const { response } of this.#waiting.splice(0)) this.#send(response, shown)
  }

  get #etag(): string {
    return `"${this.#version}"`
  }

  #send(response: ServerResponse, value: unknown): void {
    response.writeHead(200, { 'content-type': 'application/json', etag: this.#etag })
    response.end(JSON.stringify(value))
  }
}
