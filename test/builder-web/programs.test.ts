import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fixture } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { buildOfJson, compareOfJson, jobAndBuild, jobsOfJson } from './decoders.ts'
import { encodeExec, type Run, runOf, sha256 } from './exec.ts'

const RUNS = ['hello-key-1', 'hello-key-2', 'hello-key-4-same-input-different-output'] as const
const kernelOf = (name: Run) => fixture(`builds/${name}/bin/hello-key.hvt`)
const OLD = 'hello-key-1'
const NEW = 'hello-key-4-same-input-different-output'

let registry: TestRegistry

/** Sends the exec of a run as builder-server does: with the user and password of its URL. */
async function builderUpload(name: Run): Promise<number> {
  const url = new URL('/upload', registry.url)
  const authorization = `Basic ${Buffer.from(`admin:${registry.password}`).toString('base64')}`
  const body = new Uint8Array(encodeExec(runOf(name)))
  return (await fetch(url, { method: 'POST', headers: { authorization }, body })).status
}

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_BUILDER_WEB: 'on' })
  for (const name of RUNS) expect(await builderUpload(name)).toBe(201)
})
afterAll(() => registry.close())

describe('albatross-client update', () => {
  /** Its requests: the first two follow no redirect. */
  async function update(digest: string): Promise<{ job: string; old: string; new: string }> {
    const at = async (path: string) => {
      const answer = await registry.anonymous(path)
      expect({ path, status: answer.status }).toEqual({ path, status: 307 })
      return jobAndBuild(answer.headers.get('location'))
    }
    const [job, old] = await at(`/hash?sha256=${digest}`)
    const [, latest] = await at(`/job/${job}/build/latest`)
    return { job, old, new: latest }
  }
  /** It follows redirects for the binary, which must not be empty. */
  async function binary(job: string, build: string): Promise<Buffer> {
    const answer = await fetch(new URL(`/job/${job}/build/${build}/main-binary`, registry.url))
    expect(answer.status).toBe(200)
    return Buffer.from(await answer.arrayBuffer())
  }

  it('finds the running kernel and the newer one, and downloads it', async () => {
    const found = await update(sha256(kernelOf(OLD)))
    expect(found).toEqual({ job: 'hello-key', old: expect.any(String), new: runOf(NEW).uuid })
    expect((await binary(found.job, found.new)).equals(kernelOf(NEW))).toBe(true)
    expect((await registry.anonymous(`/compare/${found.old}/${found.new}`)).status).toBe(200)
  })

  it('is up to date on the newest kernel', async () => {
    const found = await update(sha256(kernelOf(NEW)))
    expect(found.new).toBe(found.old)
  })

  it('reads 404 for a kernel that no build has', async () => {
    expect((await registry.anonymous(`/hash?sha256=${'0'.repeat(64)}`)).status).toBe(404)
    expect((await registry.anonymous('/hash?sha256=xyz')).status).toBe(400)
  })
})

describe('mollymawk', () => {
  const get = async (path: string) => {
    const headers = { accept: 'application/json' }
    const answer = await fetch(new URL(path, registry.url), { headers })
    expect({ path, status: answer.status }).toEqual({ path, status: 200 })
    return JSON.parse(await answer.text())
  }

  it('checks for an update and shows the comparison', async () => {
    const current = buildOfJson(await get(`/hash?sha256=${sha256(kernelOf(OLD))}`))
    expect(current.job).toBe('hello-key')
    const latest = buildOfJson(await get(`/job/${current.job}/build/latest`))
    expect(latest).toEqual({ job: 'hello-key', uuid: runOf(NEW).uuid, size: kernelOf(NEW).length })
    const first = runOf('hello-key-1').uuid
    const compared = compareOfJson(await get(`/compare/${first}/${latest.uuid}`))
    expect([compared.left.uuid, compared.right.uuid]).toEqual([first, latest.uuid])
    expect(compared.right.size).toBe(kernelOf(NEW).length)
    const { opam, versions, onlyLeft, onlyRight, sources } = compared
    expect({ opam, onlyLeft, onlyRight }).toEqual({ opam: [], onlyLeft: [], onlyRight: [] })
    expect(versions).toEqual(['conf-pkg-config', 'dune', 'dune-configurator', 'mirage', 'solo5'])
    expect(sources.changed).toEqual(['dune', 'mirage', 'mtime'])
    expect(sources.left).toEqual([])
    expect(sources.right).toMatchObject([{ name: 'ocaml.git#5.3' }])
  })

  it('lists the unikernels that may be deployed', async () => {
    const jobs = jobsOfJson(await get('/all-builds'))
    expect(jobs).toEqual([
      {
        ...{ name: 'hello-key', uuid: runOf(NEW).uuid, target: 'hvt', version: 2 },
        synopsis: expect.stringMatching(/./),
        devices: expect.any(Array),
      },
    ])
  })

  it('reads what only the right build has as left_packages, as at builder-web', async () => {
    const [debian, freebsd] = ['hello-key-2', 'hello-key-3-freebsd-same-output'] as const
    expect(await builderUpload(freebsd)).toBe(201)
    const compared = compareOfJson(
      await get(`/compare/${runOf(debian).uuid}/${runOf(freebsd).uuid}`),
    )
    const names = (side: { name: string }[]) => side.map(({ name }) => name)
    const listed = (name: Run) => fixture(`builds/${name}/system-packages`).toString()
    expect(listed(freebsd)).toContain('ca_root_nss-')
    expect(names(compared.packages.left)).toContain('ca_root_nss')
    expect(listed(debian)).toContain('libc6')
    expect(names(compared.packages.right).some((name) => name.startsWith('libc6'))).toBe(true)
  })

  it('downloads the binary of a build', async () => {
    const path = `/job/hello-key/build/${runOf('hello-key-1').uuid}/main-binary`
    const answer = await fetch(new URL(path, registry.url))
    expect(Buffer.from(await answer.arrayBuffer()).equals(kernelOf('hello-key-1'))).toBe(true)
  })
})
