import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { waitUntil } from '../support/wait-until.ts'
import { elfWithSymbols } from '../unikernel/sizes/elf-with-symbols.ts'
import { fixture, pushLayers } from './image-fixtures.ts'

let registry: TestRegistry
let client: pg.Client

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})
afterAll(async () => {
  await client.end()
  await registry.close()
})

const KERNEL = {
  mediaType: 'application/vnd.unikernel.kernel.v1',
  bytes: fixture('elf/mini-net.hvt'),
}

/** Pushes a kernel with a debug twin, and returns the path of its sizes. */
async function pushTwin(bytes: Buffer): Promise<string> {
  const repository = newRepository()
  const twin = { mediaType: 'application/vnd.unikernel.debug.v1', bytes }
  expect((await pushLayers(registry, repository, 'v1', [KERNEL, twin])).status).toBe(201)
  return `/api/v1/repositories/${repository}/images/v1/sizes`
}

const twinOf = (symbol: string) =>
  elfWithSymbols([{ name: '.text', size: 64, symbols: [{ name: symbol, at: 0, size: 64 }] }])

/** Reads again while the answer says that the sizes are being computed. */
const read = async (path: string) => {
  let answer = await registry.anonymous(path)
  await waitUntil(async () => {
    if (answer.status === 503) answer = await registry.anonymous(path)
    return answer.status !== 503
  })
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
}

const rows = async (path: string) => {
  const { rows: found } = await client.query(
    `select p.version, p.attempts, p.problem, p.made_at is not null as made
       from layer_pictures p
       join image_layers il on il.blob_id = p.blob_id and il.role = 'debug'
       join images i on i.manifest_id = il.manifest_id
       join repositories r on r.id = i.repository_id
      where r.name = $1`,
    [path.split('/repositories/')[1]?.split('/images')[0]],
  )
  return found
}

describe('the sizes of a debug twin', () => {
  it('are computed once, also for requests at the same time', async () => {
    const path = await pushTwin(twinOf('camlMain__entry'))
    const answers = await Promise.all([read(path), read(path), read(path)])
    for (const { status } of answers) expect(status).toBe(200)
    expect(answers[0]?.body).toMatchObject({
      file: { role: 'debug' },
      tree: { bytes: 64, children: [{ name: 'OCaml', bytes: 64 }] },
    })
    expect(await rows(path)).toEqual([{ version: 1, attempts: 1, problem: null, made: true }])
    expect(await read(path)).toEqual(answers[0])
  })

  it('are refused with the reason for what is no program, and the refusal is kept', async () => {
    const path = await pushTwin(Buffer.from('#!/bin/sh\n'))
    const answer = await read(path)
    expect(answer).toMatchObject({ status: 404 })
    expect(JSON.stringify(answer.body)).toContain('is not an ELF executable')
    expect(await rows(path)).toMatchObject([{ made: true }])
    const malformed = twinOf('main')
    malformed.writeUInt16LE(60_000, 60)
    const other = await read(await pushTwin(malformed))
    expect(other.status).toBe(404)
    expect(JSON.stringify(other.body)).toContain('number of sections')
  })

  it('wait for a process that computes them, and not for one that died or whose clock was ahead', async () => {
    const path = await pushTwin(twinOf('camlWait__entry'))
    const { status } = await read(path)
    expect(status).toBe(200)
    const begin = async (startedAt: string, attempts = 1) =>
      client.query(
        `update layer_pictures
            set made_at = null, facts = null, picture = null, problem = null, started_at = ${startedAt}, attempts = $1`,
        [attempts],
      )
    await begin('now()')
    const waiting = await registry.anonymous(path)
    expect(waiting.status).toBe(503)
    expect(waiting.headers.get('retry-after')).toBe('2')
    await begin("now() - interval '10 minutes'")
    expect((await read(path)).status).toBe(200)
    expect(await rows(path)).toMatchObject([{ attempts: 2 }])
    await begin("now() + interval '10 minutes'")
    expect((await read(path)).status).toBe(200)
    await begin("now() - interval '10 minutes'", 3)
    const refused = await read(path)
    expect(refused.status).toBe(404)
    expect(JSON.stringify(refused.body)).toContain('too large to draw')
  })

  it('are computed again by a new release', async () => {
    const path = await pushTwin(twinOf('camlOld__entry'))
    expect((await read(path)).status).toBe(200)
    await client.query('update layer_pictures set version = 0')
    expect((await read(path)).status).toBe(200)
    expect(await rows(path)).toMatchObject([{ version: 1, attempts: 1 }])
  })

  it('go with the blob', async () => {
    const path = await pushTwin(twinOf('camlGone__entry'))
    expect((await read(path)).status).toBe(200)
    const { rows: left } = await client.query(
      `select confdeltype from pg_constraint where conrelid = 'layer_pictures'::regclass and contype = 'f'`,
    )
    expect(left).toEqual([{ confdeltype: 'c' }])
  })
})
