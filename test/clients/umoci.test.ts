import { copyFile, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ClientSandbox, ELF, hasClient, PASSWORD } from './client-sandbox.ts'
import { prepareContainerTools } from './container-tools.ts'

const areHere = hasClient('umoci') && hasClient('skopeo')

let sandbox: ClientSandbox

beforeAll(async () => {
  sandbox = await ClientSandbox.open()
  await prepareContainerTools(sandbox)
})

afterAll(() => sandbox?.close())

const umoci = (...args: string[]) => sandbox.succeed('umoci', args)

const copy = (from: string, to: string) => {
  const credential = ['--dest-creds', `admin:${PASSWORD}`, '--dest-tls-verify=false']
  return sandbox.succeed('skopeo', ['copy', '--src-tls-verify=false', ...credential, from, to])
}

it.runIf(areHere)('what umoci made and changed comes back byte for byte', async () => {
  const image = `docker://${sandbox.host}/umoci/hello`
  await umoci('init', '--layout', 'made')
  await umoci('new', '--image', 'made:v1')
  await umoci('unpack', '--rootless', '--image', 'made:v1', 'bundle')
  await copyFile(join(ELF, 'mini-net.hvt'), join(sandbox.folder, 'bundle/rootfs/first.hvt'))
  await umoci('repack', '--image', 'made:v1', 'bundle')
  await copy('oci:made:v1', `${image}:v1`)

  await copy(`${image}:v1`, 'oci:pulled:v1')
  await umoci('unpack', '--rootless', '--image', 'pulled:v1', 'changed')
  await copyFile(join(ELF, 'mini-none.hvt'), join(sandbox.folder, 'changed/rootfs/second.hvt'))
  await umoci('repack', '--image', 'pulled:v2', 'changed')
  await umoci('config', '--image', 'pulled:v2', '--config.label', 'unikernel=yes')
  await copy('oci:pulled:v2', `${image}:v2`)

  await copy(`${image}:v2`, 'oci:again:v2')
  await umoci('unpack', '--rootless', '--image', 'again:v2', 'result')
  const files = join(sandbox.folder, 'result/rootfs')
  expect((await readdir(files)).sort()).toEqual(['first.hvt', 'second.hvt'])
  for (const [file, kernel] of [
    ['first.hvt', 'mini-net.hvt'],
    ['second.hvt', 'mini-none.hvt'],
  ] as const) {
    expect((await readFile(join(files, file))).equals(await readFile(join(ELF, kernel)))).toBe(true)
  }
  const read = ['inspect', '--tls-verify=false']
  const inspected = await sandbox.succeed('skopeo', [...read, `${image}:v2`])
  expect(JSON.parse(inspected).Labels).toEqual({ unikernel: 'yes' })
  expect(JSON.parse(inspected).RepoTags).toEqual(['v1', 'v2'])
})
