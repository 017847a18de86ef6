import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { builder } from '../cli/builder.ts'
import { enrolHost } from '../support/hosts.ts'
import { registryAt } from '../support/process-registry.ts'
import { ALWAYS_HEALTHY, SimulatedHost } from '../support/simulated-hosts.ts'
import { BUILD, ClientSandbox, hasClient, PASSWORD } from './client-sandbox.ts'

const REPOSITORY = 'team/eu/west/builds/www'
const KERNEL = 'bin/hello-key.hvt:application/vnd.unikernel.kernel.v1'

let sandbox: ClientSandbox
let image: string
let host: SimulatedHost

/** Waits as a pusher does whose program shows no headers. */
const watch = () =>
  builder(
    [
      ...['deploy', 'watch', image, '--require-hosts', 'all'],
      ...['--username', 'admin', '--password-stdin'],
    ],
    { input: PASSWORD },
  )

describe.skipIf(!(hasClient('oras') && hasClient('crane')))('a tag that a host follows', () => {
  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    image = `${sandbox.host}/${REPOSITORY}:live`
    const settings = { ROOKERY_ADMIN_PASSWORD: PASSWORD }
    const registry = registryAt(sandbox.server.url, sandbox.folder, settings)
    const connection = await enrolHost(registry, { name: 'web-1', repositories: ['team/**'] })
    const unit = { name: 'www', repository: REPOSITORY, tag: 'live' }
    host = new SimulatedHost(connection, [unit], ALWAYS_HEALTHY)
    await host.start()
  })
  afterAll(async () => {
    await host?.kill()
    await sandbox?.close()
  })

  const push = (tag: string, value: string) =>
    sandbox.orasAsAdmin(
      [
        ...[
          'push',
          '--artifact-type',
          'application/vnd.unikernel.v1',
          '--annotation',
          `try=${value}`,
        ],
        ...[`${sandbox.host}/${REPOSITORY}:${tag}`, KERNEL],
      ],
      BUILD,
    )

  it('is pushed by oras, and rookery deploy watch waits for the host', async () => {
    await push('live', '1')
    const { status, stdout } = await watch()
    expect({ status, stdout }).toMatchObject({ status: 0 })
    expect(stdout).toMatch(/web-1\/www {2}healthy\n/)
    expect(stdout).toMatch(
      /\ndeployment 1 of team\/eu\/west\/builds\/www:live is healthy: 1 of 1 healthy\n$/,
    )
  })

  it('is moved by crane, and the deployment is found by the tag', async () => {
    await push('next', '2')
    const login = ['auth', 'login', sandbox.host, '-u', 'admin', '-p', PASSWORD]
    await sandbox.succeed('crane', login)
    await sandbox.succeed('crane', ['tag', `${sandbox.host}/${REPOSITORY}:next`, 'live'])
    const { status, stdout } = await watch()
    expect({ status, stdout }).toMatchObject({ status: 0 })
    expect(stdout).toMatch(/\ndeployment 2 of .* is healthy: 1 of 1 healthy\n$/)
  })

  it('is pushed by curl, which finds the deployment in the header Link, and waits for its end', async () => {
    await push('third', '3')
    const manifest = `http://${sandbox.host}/v2/${REPOSITORY}/manifests`
    const login = ['-sS', '-u', sandbox.credential]
    await sandbox.succeed('curl', [
      ...login,
      '-o',
      join(sandbox.folder, 'manifest'),
      `${manifest}/third`,
    ])
    const type = 'Content-Type: application/vnd.oci.image.manifest.v1+json'
    const put = [...login, '-D', '-', '-X', 'PUT', '-H', type, '--data-binary', '@manifest']
    const headers = await sandbox.succeed('curl', [...put, `${manifest}/live`])
    const [, path] = /^link: <([^>]+)>; rel="monitor"\r$/im.exec(headers) ?? []
    expect(path).toMatch(/^\/api\/v1\/deployments\/[0-9a-f-]{36}$/)
    const line = () =>
      sandbox.succeed('curl', [
        ...login,
        '-H',
        'Accept: text/plain',
        `http://${sandbox.host}${path}`,
      ])
    await expect.poll(line).toMatch(/^(rolling|succeeded) healthy=1 failed=0 offline=0 of=1\n$/)
    const again = await sandbox.succeed('curl', [...put, `${manifest}/live`])
    expect(again).toMatch(/^HTTP\/1\.1 201 /)
    expect(again).not.toMatch(/^link:/im)
  })
})
