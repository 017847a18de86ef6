import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Counted } from '../../src/async/elsewhere.ts'
import { ANSWER_MILLISECONDS_MAX } from '../../src/server/workers/channel.ts'
import type { Peers } from '../../src/server/workers/peers.ts'
import { SharedCounts } from '../../src/server/workers/shared-counts.ts'
import { ConnectedPeers } from './connected-peers.ts'

const CLIENT = '192.0.2.1'
const OTHER = '192.0.2.2'

let peers: ConnectedPeers
let open: SharedCounts[]

beforeEach(() => {
  vi.useFakeTimers()
  peers = new ConnectedPeers()
  open = []
})
afterEach(() => {
  for (const counts of open) counts.close()
  vi.useRealTimers()
})

/** A process that has so many of each client. */
function counting(channel: Peers, clients: Map<string, number>) {
  const counts = new SharedCounts(channel)
  open.push(counts)
  const read = (): Counted => ({
    total: [...clients.values()].reduce((sum, one) => sum + one, 0),
    byClient: clients,
  })
  return counts.share('streams', read)
}

/** Lets the processes send each other what changed. */
const settle = () => vi.advanceTimersByTimeAsync(300)

it('each process knows how many of a client the others have', async () => {
  const [a, b, c] = [peers.join(), peers.join(), peers.join()]
  const ofA = new Map([
    [CLIENT, 3],
    [OTHER, 1],
  ])
  const ofB = new Map([[CLIENT, 4]])
  const atA = counting(a.channel, ofA)
  counting(b.channel, ofB)
  const atC = counting(c.channel, new Map())
  await settle()
  expect([atC.of(CLIENT), atC.of(OTHER), atC.total]).toEqual([7, 1, 8])
  expect([atA.of(CLIENT), atA.of(OTHER), atA.total]).toEqual([4, 0, 4])
  ofA.delete(CLIENT)
  ofB.set(CLIENT, 5)
  await settle()
  expect([atC.of(CLIENT), atC.total]).toEqual([5, 6])
})

it('a process that starts later receives all counts, and those of a process that ends count no more', async () => {
  const first = peers.join()
  counting(first.channel, new Map([[CLIENT, 2]]))
  await settle()
  const late = counting(peers.join().channel, new Map())
  await settle()
  expect(late.of(CLIENT)).toBe(2)
  first.leave()
  await settle()
  expect([late.of(CLIENT), late.total]).toEqual([0, 0])
})

it('a question is answered by the primary and all other workers', async () => {
  const [a, b] = [peers.join(), peers.join()]
  const answer = (value: string) => async () => [{ value }]
  peers.primary.onAsk('metrics', answer('primary'))
  a.channel.onAsk('metrics', answer('a'))
  b.channel.onAsk('metrics', answer('b'))
  expect(await a.channel.ask('metrics')).toEqual([[{ value: 'primary' }], [{ value: 'b' }]])
  expect(await peers.primary.ask('metrics')).toEqual([[{ value: 'a' }], [{ value: 'b' }]])
})

it('a question does not wait for a process that hangs, fails or ends', async () => {
  const [asking, hanging, failing, ending] = [
    peers.join(),
    peers.join(),
    peers.join(),
    peers.join(),
  ]
  hanging.channel.onAsk('metrics', () => new Promise(() => {}))
  failing.channel.onAsk('metrics', () => Promise.reject(new Error('no metrics')))
  ending.channel.onAsk('metrics', () => new Promise(() => {}))
  peers.primary.onAsk('metrics', async () => [])
  const asked = asking.channel.ask('metrics')
  await vi.advanceTimersByTimeAsync(ANSWER_MILLISECONDS_MAX / 2)
  ending.leave()
  await vi.advanceTimersByTimeAsync(ANSWER_MILLISECONDS_MAX)
  expect(await asked).toEqual([[]])
})

it('a post reaches all others once, and names its process', async () => {
  const [a, b] = [peers.join(), peers.join()]
  const received: unknown[] = []
  const failure = { user: 'u', network: 'n', guess: 'g' }
  for (const [name, channel] of [
    ['primary', peers.primary],
    ['a', a.channel],
    ['b', b.channel],
  ] as const) {
    channel.onPost('login-failure', (value, from) => received.push([name, value, from]))
  }
  a.channel.post('login-failure', failure)
  await settle()
  expect(received).toEqual([
    ['primary', failure, 1],
    ['b', failure, 1],
  ])
  peers.primary.post('login-failure', failure)
  await settle()
  expect(received.slice(2)).toEqual([
    ['a', failure, 0],
    ['b', failure, 0],
  ])
})
