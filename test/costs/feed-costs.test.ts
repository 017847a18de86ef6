import { afterAll, beforeAll, expect, it } from 'vitest'
import { eventBodies } from '../support/events.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { recordStatements, statementsOf } from './statements.ts'

const CLIENTS = 20

let registry: TestRegistry

beforeAll(async () => {
  recordStatements()
  registry = await startRegistry()
})

afterAll(() => registry.close())

type Page = { events: { subject: string; type: string }[]; cursor: string; more: boolean }

async function page(query: string): Promise<Page> {
  const answer = await registry.anonymous(`/api/v1/events${query}`)
  expect(answer.status).toBe(200)
  return (await answer.json()) as Page
}

it('an event costs the clients that wait for it no question, and they ask for the next one without one', async () => {
  const repository = newRepository()
  await pushImage(registry, repository, 'first')
  await eventBodies(registry, repository, 2)
  const { cursor } = await page('?n=0')
  const statements = await statementsOf(async () => {
    const waiting = Array.from({ length: CLIENTS }, () =>
      page(`?repository=${repository}&after=${cursor}&wait=30`),
    )
    // Answered after those before it have begun to wait.
    await page('?n=0')
    await pushImage(registry, repository, 'second')
    const pages = await Promise.all(waiting)
    for (const { events } of pages) {
      expect(events[0]?.type).toBe('image.pushed')
    }
    await Promise.all(pages.map(({ cursor: next }) => page(`?after=${next}&wait=0`)))
  })
  const senders = statements.map(({ sender }) => sender)
  expect(senders.filter((sender) => sender === 'scanFeed' || sender === 'listBodies')).toEqual([])
})

it('a client that wants one event at a time gets each once, in their order', async () => {
  const repository = newRepository()
  let { cursor } = await page('?n=0')
  const names = ['a', 'b', 'c', 'd', 'e']
  const pushing = (async () => {
    for (const name of names) await pushImage(registry, repository, name)
  })()
  const subjects: string[] = []
  while (subjects.length < names.length) {
    const query = `?repository=${repository}&type=image.tag.updated&after=${cursor}&wait=30&n=1`
    const { events, cursor: next } = await page(query)
    expect(events.length).toBeLessThanOrEqual(1)
    subjects.push(...events.map(({ subject }) => subject))
    cursor = next
  }
  await pushing
  expect(subjects).toEqual(names.map((name) => `${repository}:${name}`))
})

it('a page of one event says that more are read with it, and they follow', async () => {
  const repository = newRepository()
  const { cursor } = await page('?n=0')
  const waiting = page(`?repository=${repository}&after=${cursor}&wait=30&n=1`)
  await page('?n=0')
  await pushImage(registry, repository, 'live')
  const first = await waiting
  expect(first.events.map(({ type }) => type)).toEqual(['image.pushed'])
  const second = await page(`?repository=${repository}&after=${first.cursor}&wait=30`)
  expect(second.events.map(({ type }) => type)).toEqual(['image.tag.updated'])
})
