import { setTimeout as wait } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { HostLookups } from '../../src/outgoing/host-lookups.ts'

/** A resolver whose slow names take 200 ms and then fail. */
function slowResolver() {
  const asked: string[] = []
  let running = 0
  let most = 0
  const resolve = async (name: string) => {
    asked.push(name)
    running += 1
    most = Math.max(most, running)
    if (name.startsWith('slow')) await wait(200)
    running -= 1
    if (name.startsWith('slow')) throw new Error(`no answer for ${name}`)
    return ['192.0.66.7']
  }
  return { resolve, asked, most: () => most }
}

it('slow names of many webhooks take one thread, and the others get their turn', async () => {
  const { resolve, asked, most } = slowResolver()
  const lookups = new HostLookups(resolve)
  const names = ['slow-1.example', 'slow-2.example', 'fast.example']
  const results = await Promise.allSettled(
    Array.from({ length: 30 }, (_, index) => lookups.resolve(names[index % 3] ?? '')),
  )
  expect(most()).toBe(1)
  expect(asked).toEqual(names)
  expect(results[2]).toEqual({ status: 'fulfilled', value: ['192.0.66.7'] })
  expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(20)
})

it('a slow name is not looked up again for a while, a quick one is', async () => {
  const { resolve, asked } = slowResolver()
  const lookups = new HostLookups(resolve)
  for (let count = 0; count < 3; count += 1) {
    await expect(lookups.resolve('slow.example')).rejects.toThrow('no answer')
    await lookups.resolve('fast.example')
    await wait(100)
  }
  expect(asked.filter((name) => name === 'slow.example')).toHaveLength(1)
  expect(asked.filter((name) => name === 'fast.example').length).toBeGreaterThan(1)
})
