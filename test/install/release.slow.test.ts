import {
  copyFile,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROOT, readPage } from '../house/tree.ts'
import { hasProgram } from '../support/has-program.ts'
import {
  copyProject,
  type Ended,
  type Place,
  removeFolder,
  shell,
  succeed,
} from './project-copy.ts'

const { version } = JSON.parse(readPage('package.json'))
const TAG = `v${version}`
const FILES = ['SHA256SUMS', `rookery-${version}.tgz`, `rookery-client-${version}.cjs`]
const GIT = 'git -c user.name=test -c user.email=test@example.org'

let folder: string
let clone: Place

const inClone = (...lines: string[]) => succeed(clone, `set -e\n${lines.join('\n')}`)
/** Without those that test/clients/image.test.ts and debian.slow.test.ts make. */
const COMMAND = 'node scripts/release.mjs --without containerImage --without debianPackage'
const release = (out: string, place = clone): Promise<Ended> =>
  shell(place, `${COMMAND} ${join(folder, out)}`)

/** Expects that no release is made, and returns the reason. */
async function refused(): Promise<string> {
  const ended = await release('refused')
  expect(ended).toMatchObject({ status: 1, stdout: '' })
  expect(await readdir(folder)).not.toContain('refused')
  return ended.stderr
}

/** Commits a changed file, and moves the tag to the commit. */
async function tagWith(path: string, change: (text: string) => string): Promise<void> {
  const file = join(clone.cwd, path)
  await writeFile(file, change(await readFile(file, 'utf8')))
  await inClone(`${GIT} commit -qam change`, `git tag -f ${TAG}`)
}

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'rookery-release-test-')))
  clone = { cwd: join(folder, 'clone'), home: folder }
  await succeed({ ...clone, cwd: folder }, 'mkdir clone')
  await copyProject(clone.cwd)
  await symlink(join(ROOT, 'node_modules'), join(clone.cwd, 'node_modules'))
  await inClone(
    // git ignores the folder of packages, and not a link.
    'echo node_modules >> .git/info/exclude',
    'node scripts/release.mjs --record-schema',
    `${GIT} commit -qam 'schema: the migrations of ${version}' --allow-empty`,
    `git tag ${TAG}`,
  )
}, 60_000)
afterAll(() => removeFolder(folder))

describe('scripts/release.mjs', () => {
  it('makes the same bytes in another folder, under another umask and later', async () => {
    const first = await release('first')
    expect(first).toMatchObject({ status: 0, stderr: '' })
    expect((await readdir(join(folder, 'first'))).sort()).toEqual(FILES.toSorted())
    expect(
      await succeed({ ...clone, cwd: join(folder, 'first') }, 'sha256sum --check SHA256SUMS'),
    ).toBe(
      `${FILES.slice(1)
        .toSorted()
        .map((name) => `${name}: OK`)
        .join('\n')}\n`,
    )
    expect(await inClone('git status --porcelain')).toBe('')

    const other = { ...clone, cwd: join(folder, 'a clone with another name') }
    await succeed({ ...clone, cwd: folder }, `umask 077; git clone -q clone '${other.cwd}'`)
    await symlink(join(ROOT, 'node_modules'), join(other.cwd, 'node_modules'))
    await succeed(other, 'echo node_modules >> .git/info/exclude')
    const second = await shell(other, `umask 077; ${COMMAND} ${folder}/second`)
    expect(second).toEqual(first)
  }, 240_000)

  it('has the client of the package, which runs', async () => {
    const out = join(folder, 'first')
    await copyFile(join(out, `rookery-client-${version}.cjs`), join(folder, 'rookery'))
    const alone = { ...clone, cwd: folder }
    expect(await succeed(alone, './rookery --version')).toBe(`${version}\n`)
    const packed = `tar -xzOf ${out}/rookery-${version}.tgz package/dist/rookery-client.cjs`
    await succeed(alone, `${packed} | cmp - rookery`)
  })

  it('keeps an older result', async () => {
    const again = await release('first')
    expect(again.status).toBe(1)
    expect(again.stderr).toMatch(/first exists/)
  })

  it.skipIf(hasProgram('buildah'))(
    'names a missing program of the image, and a file that it does not know',
    async () => {
      const ended = await shell(
        clone,
        `node scripts/release.mjs --without debianPackage ${join(folder, 'refused')}`,
      )
      expect(ended.status).toBe(1)
      expect(ended.stderr).toMatch(/build-image: buildah is not installed/)
      const unknown = await shell(clone, `node scripts/release.mjs --without image`)
      expect(unknown.status).toBe(1)
      expect(unknown.stderr).toMatch(/^release: there is no image; .*containerImage/)
      expect(await readdir(folder)).not.toContain('refused')
    },
    120_000,
  )

  it('names a missing program of the Debian package', async () => {
    const programs = join(folder, 'programs')
    await inClone(
      `mkdir '${programs}'`,
      `for one in node npm git tar gzip sh; do ln -s "$(command -v $one)" '${programs}'; done`,
    )
    const line = `PATH='${programs}' node scripts/release.mjs --without containerImage ${folder}/refused`
    const ended = await shell(clone, line)
    expect(ended.status).toBe(1)
    expect(ended.stderr).toMatch(/build-deb: the program dpkg-deb is missing; install/)
    expect(await readdir(folder)).not.toContain('refused')
  }, 120_000)

  it('refuses a tree with changes, and a commit without the tag of the version', async () => {
    await inClone('echo >> README.md')
    expect(await refused()).toMatch(/the working tree has changes:\n.*README\.md/)
    await inClone('git checkout -q README.md', `git tag -d ${TAG}`)
    expect(await refused()).toMatch(/no tag; run: git tag -a v/)
    await inClone('git tag v9.9.9')
    expect(await refused()).toMatch(`the tag is v9.9.9, and the version in package.json ${version}`)
    await inClone('git tag -d v9.9.9', `git tag ${TAG}`)
  })

  it('refuses a version that the change log, the lock file or the record of the schema does not have', async () => {
    const heading = `## [${version}]`
    await tagWith('CHANGELOG.md', (text) => text.replace(heading, '## [0.0.1]'))
    expect(await refused()).toMatch(/CHANGELOG\.md has no line "## \[/)
    await tagWith('CHANGELOG.md', (text) => text.replace('## [0.0.1]', heading))
    await tagWith('schema/0001-registry.sql', (text) => `${text}\n`)
    expect(await refused()).toMatch(/--record-schema/)
    await tagWith('schema/0001-registry.sql', (text) => text.slice(0, -1))
    await tagWith('package-lock.json', (text) => text.replace(`"${version}"`, '"0.0.1"'))
    expect(await refused()).toMatch(/package-lock\.json has another version/)
  })
})
