import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { logIn, sendForm } from '../auth/session-client.ts'
import { insertDeployment, KERNEL, report } from '../deployments/reporting.ts'
import { rowsOf } from '../deployments/rows.ts'
import { pushBuild } from '../images/image-fixtures.ts'
import {
  enrolHost,
  issuerOf,
  keyFields,
  makeHostKey,
  postForm,
  type TestHost,
} from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const REPOSITORY = 'web/www'
const LONG = `www-${'of-a-very-long-name-'.repeat(3)}`.slice(0, 64)
/** Calls of hosts are recorded a little later. */
const SEEN = { timeout: 10_000, interval: 20 }
const follows = { repository: REPOSITORY, tag: 'live' }

let registry: TestRegistry
let cookie: string

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_HOST_ENROLMENT: 'approve' })
  cookie = await logIn(registry, { name: 'admin', secret: registry.password })
})
afterAll(() => registry.close())

async function page(path: string, headers: Record<string, string> = { cookie }) {
  const answer = await registry.anonymous(path, { headers })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

const send = (path: string, fields: Record<string, string> = {}) =>
  sendForm(registry, path, fields, { cookie })

/** The text of a page, without its elements. */
const words = (text: string) => text.replace(/<[^>]+>/g, ' ').replace(/\s+/g, ' ')

/** The words of the row of a table whose heading has this name. */
function rowOf(text: string, name: string): string {
  const row = text.split('<tr>').find((one) => one.includes(`>${name}</`))
  return words(row ?? '')
}

async function headersOf(repositories: string[], actions: ('pull' | 'push' | 'admin')[]) {
  const made = await makeCredential(registry, { repositories, actions })
  return { authorization: basic(made.name, made.secret) }
}

/** A host that enrolled without a code, and waits. Returns its fingerprint. */
async function enrolPending(name: string): Promise<string> {
  const key = makeHostKey()
  const fields = keyFields(key, await issuerOf(registry), { name })
  expect((await postForm(registry, '/api/v1/hosts/enrol', fields)).status).toBe(202)
  return key.thumbprint
}

describe('without a host', () => {
  it('the page has the lines with which the first one enrols', async () => {
    const { status, text } = await page('/hosts')
    expect(status).toBe(200)
    const { host } = new URL(registry.url)
    expect(text).toContain(`--password-stdin ${host} web-1 --repository`)
    expect(text).toContain(`curl -fsSo rookery-agent ${registry.url}/agent`)
    expect((await page('/agent')).status).toBe(200)
    expect((await page('/hosts?state=revoked')).text).not.toContain('rookery-agent')
  })
})

describe('hosts and their units', () => {
  let well: TestHost

  beforeAll(async () => {
    await pushBuild(registry, REPOSITORY, 'live', 'hello-key-1')
    const repositories = ['web/*']
    const labels = { site: 'nantes' }
    well = await enrolHost(registry, { name: 'web-1', repositories, labels })
    await report(well, { follows, kernel: KERNEL, state: 'healthy' })
    await report(well, { follows, state: 'absent' }, LONG)
    const badly = await enrolHost(registry, { name: 'web-2', repositories })
    await report(badly, {
      ...{ follows, kernel: KERNEL, state: 'failed', reason: 'exit', exit: { code: 2 } },
      ...{ message: 'it ended <b>early</b>' },
      log: { text: 'Solo5: v0.9\nFatal error: \u202eexception\u001b[2J <img src=x onerror=a()>\n' },
    })
    await rowsOf(
      registry,
      `with host as (
         insert into hosts (name, state, trust, repositories, created_by, seen_at, lost_at)
         values ('web-3', 'active', 'key', '{web/*}', 'admin', now(), now())
         returning id
       )
       insert into units (host_id, name, repository, tag, state, boot_id, sequence, since)
       select id, 'www', 'web/www', 'live', 'healthy', 'boot', 1, now()
         from host`,
    )
    const seen = "select 1 from hosts where seen_at is not null and name in ('web-1', 'web-2')"
    await vi.waitFor(async () => expect(await rowsOf(registry, seen)).toHaveLength(2), SEEN)
    await enrolHost(registry, { name: 'bare', repositories: ['other/*'] })
  })

  it('are one table: what does not run as it should is in words', async () => {
    const { status, text, headers } = await page('/hosts')
    expect(status).toBe(200)
    expect(headers.get('link')).toContain('</api/v1/hosts>; rel="alternate"')
    expect(words(text)).toContain('1 of 3 units run what they should. 2 hosts are offline.')
    expect(rowOf(text, 'web-1')).toContain(`web-1 ✓ online ✓ healthy ${LONG} ○ absent site=nantes`)
    expect(rowOf(text, 'web-2')).toContain('✓ online ✗ failed')
    expect(rowOf(text, 'web-3')).toContain('✗ offline ○ was healthy')
    expect(text).toContain('href="/hosts/bare"')
    expect(text.length).toBeLessThan(20_000)
  })

  it('are found by a label', async () => {
    const { text } = await page('/hosts?label=site%3Dnantes')
    expect(text).toContain('href="/hosts/web-1"')
    expect(text).not.toContain('href="/hosts/web-2"')
    expect((await page('/hosts?label=nothing')).status).toBe(400)
  })

  it('show an image that is granted and does not run yet', async () => {
    const digest = await pushBuild(registry, REPOSITORY, 'next', 'hello-key-2')
    await rowsOf(
      registry,
      "update units set granted_digest = $1 where host_id = $2 and name = 'www'",
      [digest, well.id],
    )
    expect(rowOf((await page('/hosts')).text, 'web-1')).toContain('… earlier image')
    const { text } = await page('/hosts/web-1')
    expect(rowOf(text, 'www')).toContain(digest.slice(0, 19))
    expect(text).toContain(`href="/kernels/${KERNEL}"`)
  })

  it('have a page each: state, cause, last lines, and what ran', async () => {
    const { status, text, headers } = await page('/hosts/web-2')
    expect(status).toBe(200)
    expect(headers.get('link')).toContain('</api/v1/hosts/web-2>; rel="alternate"')
    expect(rowOf(text, 'www')).toContain('✗ failed exit; it ended &lt;b>early&lt;/b>')
    expect(text).toContain('Fatal error: exception &lt;img src=x onerror=a()>')
    expect(words(text)).toContain('What ran here')
    expect(text).toContain(`href="/r/${REPOSITORY}"`)
    expect(words(text)).toContain('May follow web/*')
    expect(text.length).toBeLessThan(20_000)
    const { units } = JSON.parse((await page('/api/v1/hosts/web-2', { ...as() })).text)
    expect(units[0].log).toContain('Fatal error')
  })

  it('show no lines of a repository that a unit does not follow any more', async () => {
    const other = await enrolHost(registry, { name: 'moved' })
    await report(other, { follows, state: 'absent', log: { text: 'a secret of web\n' } })
    expect((await page('/hosts/moved')).text).toContain('a secret of web')
    await report(other, { follows: { repository: 'other/www', tag: 'live' }, state: 'absent' })
    expect((await page('/hosts/moved')).text).not.toContain('a secret of web')
  })

  it('say that nothing runs on a host without units', async () => {
    expect((await page('/hosts/bare')).text).toContain('This host has reported no unit.')
  })

  it('are shown to those who manage them, and exist for nobody else', async () => {
    const manager = await headersOf(['web/**'], ['admin', 'pull'])
    const { text } = await page('/hosts', manager)
    expect(text).toContain('href="/hosts/web-1"')
    expect(text).not.toContain('bare')
    expect((await page('/hosts/web-1', manager)).status).toBe(200)
    expect((await page('/hosts/bare', manager)).status).toBe(404)
    const pusher = await headersOf(['**'], ['push', 'pull'])
    expect((await page('/hosts', pusher)).text).not.toContain('web-1<')
    expect((await page('/hosts/web-1', pusher)).status).toBe(404)
    const anonymous = await page('/hosts/web-1', {})
    expect([anonymous.status, anonymous.headers.get('location')]).toEqual([
      303,
      '/login?next=%2Fhosts%2Fweb-1',
    ])
    expect((await page('/hosts/missing')).status).toBe(404)
  })

  it('are links on other pages, for those who may manage them', async () => {
    const link = 'href="/hosts/web-1"'
    const id = await insertDeployment(registry, REPOSITORY, `sha256:${'d'.repeat(64)}`, 'halted')
    await rowsOf(
      registry,
      `insert into targets (deployment_id, host_id, unit, place, state) values ($1, $2, 'www', 1, 'failed')`,
      [id, well.id],
    )
    const manager = await headersOf(['web/*'], ['admin', 'pull'])
    const pusher = await headersOf(['web/*'], ['push', 'pull'])
    for (const path of [`/kernels/${KERNEL}`, `/deployments/${id}`]) {
      expect([path, (await page(path, manager)).text]).toEqual([
        path,
        expect.stringContaining(link),
      ])
      const { text } = await page(path, pusher)
      expect([path, text]).toEqual([path, expect.stringContaining('web-1')])
      expect(text).not.toContain(link)
    }
  })
})

describe('a host that waits', () => {
  it('is approved by a form that shows its fingerprint', async () => {
    const fingerprint = await enrolPending('waits')
    const list = await page('/hosts')
    expect(words(list.text)).toContain(`waits … pending ${fingerprint}`)
    const { text } = await page('/hosts/waits')
    expect(text).toContain(`<code>${fingerprint}</code>`)
    expect(text).toContain('action="/hosts/waits/approve"')
    const grant = { repositories: 'web/*  other/*', networks: '', labels: 'site=a tier=b' }
    const wrong = await send('/hosts/waits/approve', { ...grant, fingerprint: 'b'.repeat(43) })
    expect([wrong.status, await wrong.text()]).toEqual([
      409,
      expect.stringContaining('another fingerprint'),
    ])
    const label = await send('/hosts/waits/approve', { ...grant, fingerprint, labels: 'site' })
    expect(label.status).toBe(400)
    const answer = await send('/hosts/waits/approve', { ...grant, fingerprint })
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/hosts/waits'])
    const host = JSON.parse((await page('/api/v1/hosts/waits', as())).text)
    expect(host).toMatchObject({
      ...{ state: 'active', repositories: ['web/*', 'other/*'], networks: null },
      labels: { site: 'a', tier: 'b' },
    })
    expect((await page('/hosts/waits')).text).not.toContain('/approve')
  })

  it('is denied by a form', async () => {
    await enrolPending('stranger')
    const pending = await page('/hosts?state=pending')
    expect(rowOf(pending.text, 'stranger')).toContain('127.0.0.')
    expect((await page('/hosts/stranger')).text).toContain('>Deny</button>')
    const answer = await send('/hosts/stranger/revoke')
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/hosts'])
    expect((await page('/hosts/stranger')).status).toBe(404)
  })
})

it('a host is revoked by a form, and is in the list of revoked hosts', async () => {
  await enrolHost(registry, { name: 'stolen', labels: { site: 'b' } })
  expect((await page('/hosts/stolen')).text).toContain('action="/hosts/stolen/revoke"')
  expect((await send('/hosts/stolen/revoke')).status).toBe(303)
  expect((await page('/hosts/stolen')).status).toBe(404)
  expect((await page('/hosts')).text).not.toContain('stolen')
  expect(rowOf((await page('/hosts?state=revoked')).text, 'stolen')).toContain('revoked site=b')
})

it('a form of another site revokes nothing', async () => {
  await enrolHost(registry, { name: 'wanted' })
  const headers = { cookie, 'sec-fetch-site': 'cross-site' }
  expect((await sendForm(registry, '/hosts/wanted/revoke', {}, headers)).status).toBe(403)
  expect((await page('/hosts/wanted')).status).toBe(200)
})

it('a page of hosts with many units is short', async () => {
  await rowsOf(
    registry,
    `with host as (
       insert into hosts (name, state, trust, repositories, labels, created_by, seen_at)
       select 'full-' || n, 'active', 'key', '{**}',
              (select jsonb_object_agg('label-' || m, repeat('x', 40)) from generate_series(1, 32) m), 'admin', now()
         from generate_series(1, 60) n
       returning id
     )
     insert into units (host_id, name, repository, tag, state, boot_id, sequence, since)
     select id, 'unit-' || m, 'web/www', 'live', 'healthy', 'boot', 1, now()
       from host, generate_series(1, 20) m`,
  )
  const { text, headers } = await page('/hosts')
  expect(text.length).toBeLessThan(40_000)
  expect(text).toContain('14 more')
  const next = /<([^>]+)>; rel="next"/.exec(headers.get('link') ?? '')?.[1] ?? ''
  expect((await page(next)).text).toContain('full-')
})

function as() {
  return { authorization: basic('admin', registry.password) }
}
