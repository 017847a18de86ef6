import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { logIn, sendForm } from '../auth/session-client.ts'
import {
  addDeployment,
  addTarget,
  changeTarget,
  endDeployment,
} from '../deployments/deployment-rows.ts'
import { rowsOf } from '../deployments/rows.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const REPOSITORY = 'web/www'
const LOG = 'Fatal error: exception <img src=x onerror=alert(1)>'

let registry: TestRegistry
let cookie: string
let id: string

beforeAll(async () => {
  registry = await startRegistry()
  await pushImage(registry, REPOSITORY, 'live')
  id = await addDeployment(registry, REPOSITORY)
  await addTarget(registry, id, 'web-1', 'starting')
  await addTarget(registry, id, 'web-2', 'healthy')
  await changeTarget(registry, id, 'web-1', 'failed', { exitCode: 2, log: LOG })
  cookie = await logIn(registry, { name: 'admin', secret: registry.password })
})
afterAll(() => registry.close())

async function page(path: string, headers: Record<string, string> = { cookie }) {
  const answer = await registry.anonymous(path, { headers })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

const send = (path: string) => sendForm(registry, path, {}, { cookie })

describe('the page of a deployment', () => {
  it('shows which unit failed, why, and its last lines', async () => {
    const { status, text, headers } = await page(`/deployments/${id}`)
    expect(status).toBe(200)
    expect(headers.get('link')).toContain(`</api/v1/deployments/${id}>; rel="alternate"`)
    expect(text).toContain('web-1')
    expect(text).toContain('1 of 2 healthy, 1 failed')
    expect(text).toContain('exit code 2, an exception of OCaml')
    expect(text).toContain('Fatal error: exception &lt;img src=x')
    expect(text).toContain(`data-live="/deployments/${id}/stream"`)
    expect(text).not.toContain('data-ended')
    expect(text.length).toBeLessThan(20_000)
  })

  it('shows counts, and no hosts and no forms, to those who may only pull', async () => {
    const made = await makeCredential(registry, { repositories: ['web/**'], actions: ['pull'] })
    const authorization = basic(made.name, made.secret)
    const { text } = await page(`/deployments/${id}`, { authorization })
    expect(text).toContain('1 of 2 healthy, 1 failed')
    expect(text).not.toMatch(/web-1|Fatal error/)
    expect(text).not.toContain('/pause')
    const refused = await registry.anonymous(`/deployments/${id}/pause`, {
      method: 'POST',
      headers: { authorization },
    })
    expect(refused.status).toBe(403)
  })

  it('sends a reader without a login to the form', async () => {
    const answer = await page(`/deployments/${id}`, {})
    expect([answer.status, answer.headers.get('location')]).toEqual([
      303,
      `/login?next=${encodeURIComponent(`/deployments/${id}`)}`,
    ])
    expect((await page(`/deployments/${id}/stream`, {})).status).toBe(303)
  })

  it('is paused and resumed by forms', async () => {
    await pushImage(registry, 'web/other', 'live')
    for (const [state, change, next] of [
      ['rolling', 'pause', 'resume'],
      ['paused', 'resume', undefined],
    ] as const) {
      const other = await addDeployment(registry, 'web/other')
      await rowsOf(registry, 'update deployments set state = $2 where id = $1', [other, state])
      const answer = await send(`/deployments/${other}/${change}`)
      expect([answer.status, answer.headers.get('location')]).toEqual([
        303,
        `/deployments/${other}`,
      ])
      const { text } = await page(`/deployments/${other}`)
      expect(text).not.toContain(`action="/deployments/${other}/${change}"`)
      if (next !== undefined) expect(text).toContain(`action="/deployments/${other}/${next}"`)
    }
  })

  it('is cancelled by a form, and its stream says so to the session', async () => {
    const stream = await registry.anonymous(`/deployments/${id}/stream`, {
      headers: { cookie, accept: 'text/event-stream' },
    })
    expect(stream.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    const events = stream.text()
    const answer = await send(`/deployments/${id}/cancel`)
    expect([answer.status, answer.headers.get('location')]).toEqual([303, `/deployments/${id}`])
    expect(await events).toContain('"state":"cancelled"')
    const { text } = await page(`/deployments/${id}`)
    expect(text).toContain('data-ended')
    expect(text).toContain(`action="/deployments/${id}/retry"`)
    expect(text).not.toContain(`action="/deployments/${id}/pause"`)
  })

  it('says why a form has no effect', async () => {
    const { status } = await send(`/deployments/${id}/pause`)
    expect(status).toBe(409)
    const answer = await send(`/deployments/${id}/retry`)
    expect(answer.status).toBe(409)
    expect(await answer.text()).toContain('names sha256:')
  })
})

describe('the list of deployments', () => {
  it('shows those in a state, newest first', async () => {
    const open = await addDeployment(registry, REPOSITORY)
    const halted = await addDeployment(registry, REPOSITORY, { tag: 'beta' })
    await endDeployment(registry, halted, 'halted')
    const all = (await page('/deployments')).text
    expect(all.indexOf(`/deployments/${halted}`)).toBeLessThan(all.indexOf(`/deployments/${open}`))
    const failed = (await page('/deployments?state=halted')).text
    expect(failed).toContain(`href="/deployments/${halted}"`)
    expect(failed).not.toContain(`href="/deployments/${open}"`)
    expect((await page('/deployments?state=open')).status).toBe(400)
  })
})
