import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runUntilExit, startProcess, stopProcess } from '../support/server-process.ts'

/** Only root can own the volumes of another user's process, as Kubernetes does. */
const AS_ROOT = process.getuid?.() === 0
/** A user with an entry in /etc/passwd, as the image has one for the pods. */
const POD_USER = 1
const POD = { uid: POD_USER, gid: POD_USER, cwd: '/' }

describe.runIf(AS_ROOT)('a pod of Kubernetes', () => {
  let folder: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-pod-'))
    await chmod(folder, 0o755)
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  /** Makes a volume with the group of the pod (fsGroup): root owns it. */
  async function volume(name: string, mode: number): Promise<string> {
    const path = join(folder, name)
    await mkdir(path)
    await chown(path, 0, POD_USER)
    await chmod(path, mode)
    return path
  }

  async function secret(volumePath: string, name: string, text: string): Promise<string> {
    const path = join(volumePath, name)
    await writeFile(path, text)
    await chown(path, 0, POD_USER)
    await chmod(path, 0o440)
    return path
  }

  /** Starts the server as the pod does, and stops it. Returns the status of /readyz. */
  async function readiness(settings: Record<string, string>): Promise<number> {
    const server = await startProcess(settings, POD)
    try {
      return (await fetch(`${server.url}/readyz`)).status
    } finally {
      expect(await stopProcess(server)).toBe(0)
    }
  }

  it('starts with an empty folder that everybody may write, and with secrets that its group may read', async () => {
    const secrets = await volume('secrets', 0o755)
    const data = await volume('empty', 0o2777)
    const settings = {
      ROOKERY_DATA_DIR: data,
      ROOKERY_ADMIN_PASSWORD_FILE: await secret(secrets, 'admin-password', 'pulled out of a hat\n'),
      ROOKERY_MASTER_KEY_FILE: await secret(
        secrets,
        'master-key',
        `${randomBytes(32).toString('base64')}\n`,
      ),
    }
    expect(await readiness(settings)).toBe(200)
  })

  it('starts again on its volume of root, but not when the group may write everything there', async () => {
    const data = await volume('claimed', 0o2775)
    const settings = { ROOKERY_DATA_DIR: data }
    expect(await readiness(settings)).toBe(200)
    expect(await readiness(settings)).toBe(200)
    // The default fsGroupChangePolicy does this at each start.
    execFileSync('chmod', ['-R', 'g+rwX', data])
    const { status, stderr } = await runUntilExit(settings, POD)
    expect([status, stderr]).toEqual([1, expect.stringContaining('has invalid permissions')])
  })
})
