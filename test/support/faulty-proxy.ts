import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/** The fates of connections, each as likely as the others. */
const FAULTS = ['cut', 'delay', 'black hole', 'none', 'none', 'none', 'none', 'none'] as const
const CUT_BYTES_MAX = 400
const DELAY_MILLISECONDS_MAX = 1_000
const BLACK_HOLE_MILLISECONDS_MAX = 4_000
const TARGETS_TRIED_MAX = 3

/**
 * A TCP proxy before several servers. It gives connections to them in turn, to the next one when a server does not accept
 * it, and while `isFaulty` cuts some connections in the middle of an answer, delays some, and forwards nothing of others.
 */
export class FaultyProxy {
  isFaulty = false
  /** How many connections met each fault. */
  readonly met = new Map<string, number>()
  readonly #ports: () => readonly number[]
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #turn = 0

  private constructor(ports: () => readonly number[]) {
    this.#ports = ports
    this.#server = createServer((client) => this.#accept(client))
  }

  /** Listens on all addresses. `ports` returns the ports of the servers on 127.0.0.1. */
  static async listen(ports: () => readonly number[]): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(ports)
    proxy.#server.listen(0, '0.0.0.0')
    await once(proxy.#server, 'listening')
    return proxy
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #accept(client: Socket): void {
    const fault = this.isFaulty ? FAULTS[Math.floor(Math.random() * FAULTS.length)] : 'none'
    this.met.set(fault ?? 'none', (this.met.get(fault ?? 'none') ?? 0) + 1)
    this.#keep(client)
    if (fault === 'black hole') {
      setTimeout(() => client.destroy(), Math.random() * BLACK_HOLE_MILLISECONDS_MAX).unref()
      return
    }
    this.#forward(client, fault, 1)
  }

  #forward(client: Socket, fault: string | undefined, tried: number): void {
    const ports = this.#ports()
    this.#turn += 1
    const server = connect(ports[this.#turn % ports.length] ?? 0, '127.0.0.1')
    this.#keep(server)
    server.once('error', () => {
      if (server.bytesWritten > 0 || tried >= TARGETS_TRIED_MAX) client.destroy()
      else this.#forward(client, fault, tried + 1)
    })
    server.once('connect', () => {
      client.pipe(server)
      client.once('close', () => server.destroy())
      server.once('close', () => client.end())
      if (fault !== 'delay' && fault !== 'cut') server.pipe(client)
      let left = Math.random() * CUT_BYTES_MAX
      // One time for all bytes of a connection: TCP keeps their order.
      const delayed = Math.random() * DELAY_MILLISECONDS_MAX
      server.on('data', (chunk: Buffer) => {
        if (fault === 'delay') {
          setTimeout(() => client.write(chunk), delayed)
        } else if (fault === 'cut') {
          client.write(chunk.subarray(0, left))
          left -= chunk.length
          if (left <= 0) client.destroy()
        }
      })
    })
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => this.#sockets.delete(socket))
  }
}
