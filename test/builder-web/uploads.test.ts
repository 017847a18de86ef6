import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { ask, expectedOf, fixture } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { type Exec, encodeExec, hashOf, RUN_NAMES, type Run, runOf, sha256 } from './exec.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_BUILDER_WEB: 'on' })
})
afterAll(() => registry.close())

const upload = (exec: Exec | Buffer, server = registry) =>
  server.request('/upload', {
    method: 'POST',
    body: new Uint8Array(Buffer.isBuffer(exec) ? exec : encodeExec(exec)),
  })
const json = async (path: string) => {
  const answer = await registry.anonymous(path, { headers: { accept: 'application/json' } })
  expect({ path, status: answer.status }).toEqual({ path, status: 200 })
  return JSON.parse(await answer.text())
}
const statusAndText = async (answer: Response) => [answer.status, await answer.text()]
let count = 0
/** Returns a run of a job of its own. */
function ownRun(name: Run = 'hello-key-1', more: Partial<Exec> = {}): Exec {
  count += 1
  return { ...runOf(name), job: `job-${count}`, ...more }
}

describe('an upload of builder', () => {
  it.each(RUN_NAMES)('%s is taken whole, and comes back byte for byte', async (name) => {
    const run = { ...runOf(name), job: `whole-${RUN_NAMES.indexOf(name)}` }
    expect(sha256(encodeExec(runOf(name)))).toBe(hashOf(name))
    const answer = await upload(run)
    expect(await statusAndText(answer)).toEqual([201, ''])
    const build = `/job/${run.job}/build/${run.uuid}`
    expect(answer.headers.get('location')).toBe(build)
    expect(await json(build)).toMatchObject({
      ...{ job: run.job, uuid: run.uuid, platform: run.platform },
      main_binary: name !== 'hello-key-5-failed',
      start_time: run.started.replace('Z', '.000Z'),
      finish_time: run.finished.replace('Z', '.000Z'),
    })
    for (const [path, bytes] of run.outputs) {
      const file = await registry.anonymous(`${build}/f/${path}`)
      expect(file.status, path).toBe(200)
      expect(Buffer.from(await file.arrayBuffer()).equals(bytes), path).toBe(true)
    }
    const exec = await registry.anonymous(`${build}/exec`)
    expect(exec.headers.get('content-length')).toBe(String(encodeExec(run).length))
    expect(Buffer.from(await exec.arrayBuffer()).equals(encodeExec(run))).toBe(true)
    const script = await registry.anonymous(`${build}/script`)
    expect(await script.text()).toBe(run.script)
    const console = await registry.anonymous(`${build}/console`)
    expect(await console.text()).toBe(
      run.console.map(([at, text]) => `${(Number(at) / 1e9).toFixed(3)}s:${text}\n`).join(''),
    )
    const { input_id } = expectedOf(name as never)
    const found = await ask(registry, `repositories/${run.job}/builds/${run.uuid}`)
    expect(found).toMatchObject({
      result: name === 'hello-key-5-failed' ? 'failed' : 'succeeded',
      exitCode: name === 'hello-key-5-failed' ? 1 : null,
      inputId: input_id,
      platform: run.platform,
    })
  })

  it('with a uuid that the job has is refused, and changes nothing', async () => {
    const run = ownRun()
    expect((await upload(run)).status).toBe(201)
    const again = await upload(run)
    expect(again.status).toBe(409)
    expect(await again.text()).toContain(`has the build ${run.uuid} already`)
    expect((await ask(registry, `repositories/${run.job}/builds`)).builds).toHaveLength(1)
  })

  it('keeps files that are no part of an image, such as packages and configs', async () => {
    const more = [
      ['etc/site.conf', Buffer.from([0xff, 0, 1])],
      ['site.pkg.zst', Buffer.from('zst')],
      ['other/opam-switch', Buffer.from('x')],
      ['other.debug', Buffer.from('y')],
    ] as const
    const plain = ownRun()
    const run = { ...plain, outputs: [...plain.outputs, ...more] }
    expect((await upload(run)).status).toBe(201)
    for (const [path, bytes] of more) {
      const file = await registry.anonymous(`/job/${run.job}/build/${run.uuid}/f/${path}`)
      expect(Buffer.from(await file.arrayBuffer()).equals(bytes), path).toBe(true)
    }
    const image = await ask(registry, `repositories/${run.job}/images/debian-12`)
    expect(image.inputId).toBe(expectedOf('hello-key-1').input_id)
  })

  it('of a package is a build that succeeded, with the package as its main binary', async () => {
    const deb = Buffer.from('!<arch>\ndebian-binary')
    const run = ownRun('hello-key-1', {
      outputs: [
        ['README.md', deb],
        ['bin/albatross.deb', deb],
      ],
    })
    expect(await statusAndText(await upload(run))).toEqual([201, ''])
    const build = `/job/${run.job}/build/${run.uuid}`
    expect(await json(build)).toMatchObject({ main_binary: true })
    const main = await registry.anonymous(`${build}/main-binary`)
    expect(main.headers.get('location')).toBe(`${build}/f/bin/albatross.deb`)
    const { jobs } = await json('/all-builds')
    expect(jobs.find(({ name }: { name: string }) => name === run.job)).toEqual({
      name: run.job,
      synopsis: '',
    })
  })

  it.each([
    ['no file below bin/', []],
    ['two files below bin/', ['bin/a.hvt', 'bin/b.hvt']],
  ])('with %s has failed', async (_title, paths) => {
    const kernel = fixture('elf/mini-net.hvt')
    const run = ownRun('hello-key-1', { outputs: paths.map((path) => [path, kernel]) })
    expect((await upload(run)).status).toBe(201)
    const build = await ask(registry, `repositories/${run.job}/builds/${run.uuid}`)
    expect(build).toMatchObject({ result: 'error' })
    expect(build.message).toContain(`left ${paths.length} files below bin/`)
    const main = await registry.anonymous(`/job/${run.job}/build/${run.uuid}/main-binary`)
    expect(main.status).toBe(404)
  })

  it.each([
    [['exited', 137], { result: 'failed', exitCode: 137 }],
    // OCaml's numbers of SIGKILL and of a signal that POSIX does not have.
    [['signalled', -7], { result: 'signalled', signal: 9 }],
    [['signalled', 42], { result: 'signalled', signal: 42 }],
    [['stopped', -16], { result: 'error', message: 'the build was stopped with -16' }],
    [['msg', 'no worker'], { result: 'error', message: 'no worker' }],
  ] as const)('that ended with %j is kept as such', async (result, expected) => {
    const run = ownRun('hello-key-5-failed', { result })
    expect((await upload(run)).status).toBe(201)
    expect(await ask(registry, `repositories/${run.job}/builds/${run.uuid}`)).toMatchObject(
      expected,
    )
  })

  it('moves the tag of its platform, and an older one that comes later does not', async () => {
    const { job } = ownRun()
    for (const name of ['hello-key-2', 'hello-key-1', 'hello-key-3-freebsd-same-output'] as const) {
      expect((await upload({ ...runOf(name), job })).status).toBe(201)
    }
    const digestOf = async (tag: string) =>
      (await ask(registry, `repositories/${job}/images/${tag}`)).digest
    const { builds } = await ask(registry, `repositories/${job}/builds`)
    const [freebsd, , newest] = builds
    expect(await digestOf('debian-12')).toBe(newest.digest)
    expect(await digestOf('freebsd-14')).toBe(freebsd.digest)
    const latest = await registry.anonymous(`/job/${job}/build/latest?platform=debian-12`)
    expect(latest.headers.get('location')).toBe(`/job/${job}/build/${runOf('hello-key-2').uuid}`)
  })

  it('needs the right to push to the repository and to the tag', async () => {
    const run = ownRun()
    const send = async (grant: object) => {
      const { name, secret } = await makeCredential(registry, grant)
      return registry.anonymous('/upload', {
        method: 'POST',
        headers: { authorization: basic(name, secret) },
        body: new Uint8Array(encodeExec(run)),
      })
    }
    const nobody = await registry.anonymous('/upload', { method: 'POST', body: 'x' })
    expect(nobody.status).toBe(401)
    expect(nobody.headers.get('www-authenticate')).toMatch(/^Basic /)
    const other = await send({ repositories: ['other/**'], actions: ['pull', 'push'] })
    expect(other.status).toBe(403)
    expect(await other.text()).toContain(`may not push in ${run.job}`)
    const reader = await send({ repositories: ['**'], actions: ['pull'] })
    expect(reader.status).toBe(403)
    const bounded = { repositories: ['**'], actions: ['pull', 'push'] }
    const tagged = await send({ ...bounded, tags: ['freebsd-*'] })
    expect(await tagged.text()).toContain(`may not push tag debian-12 in ${run.job}`)
    expect((await send({ ...bounded, tags: ['debian-*'] })).status).toBe(201)
  })

  it('of a binary makes a build of it', async () => {
    const kernel = fixture('elf/mini-net.hvt')
    const path = '/job/by-hand/platform/debian-12/upload'
    const answer = await registry.request(`${path}?binary_name=site.hvt`, {
      method: 'POST',
      body: new Uint8Array(kernel),
    })
    expect(await statusAndText(answer)).toEqual([201, ''])
    const build = answer.headers.get('location') ?? ''
    expect(await json(build)).toMatchObject({ main_binary: true, platform: 'debian-12' })
    const file = await registry.anonymous(`${build}/f/bin/site.hvt`)
    expect(Buffer.from(await file.arrayBuffer()).equals(kernel)).toBe(true)
    expect(await (await registry.anonymous(`${build}/script`)).text()).toBe(
      '# This artifact was manually built\n',
    )
    expect(await (await registry.anonymous(`${build}/console`)).text()).toBe('')
    const unnamed = await registry.request(path, { method: 'POST', body: 'a package' })
    const main = await registry.anonymous(`${unnamed.headers.get('location')}/main-binary`)
    expect(main.headers.get('location')).toMatch(/\/f\/bin\/by-hand\.bin$/)
    const wrong = await registry.request(`${path}?binary_name=../x`, { method: 'POST', body: 'x' })
    expect(wrong.status).toBe(400)
    const reader = await makeCredential(registry, { repositories: ['**'], actions: ['pull'] })
    const refused = await registry.anonymous(path, {
      method: 'POST',
      headers: { authorization: basic(reader.name, reader.secret) },
      body: 'x',
    })
    expect([refused.status, await refused.text()]).toEqual([
      403,
      expect.stringContaining('may not push in by-hand'),
    ])
  })
})

it('the start page is that of the registry in a browser, and the list of jobs for programs', async () => {
  const typeOf = async (accept: string) =>
    (await registry.anonymous('/', { headers: { accept } })).headers.get('content-type')
  expect(await typeOf('text/html,application/xhtml+xml,*/*;q=0.8')).toContain('text/html')
  expect(await typeOf('application/json')).toContain('application/json')
  expect(await typeOf('*/*')).toContain('application/json')
})

it('without the setting no path of builder-web is there', async () => {
  const plain = await startRegistry()
  try {
    expect((await plain.anonymous('/')).headers.get('content-type')).toContain('text/html')
    for (const path of ['/all-builds', '/hash?sha256=00', '/job/a', '/robots.txt']) {
      expect((await plain.anonymous(path)).status, path).toBe(404)
    }
    expect((await upload(runOf('hello-key-1'), plain)).status).toBe(404)
  } finally {
    await plain.close()
  }
})
