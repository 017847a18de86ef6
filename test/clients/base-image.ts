import { execFile } from 'node:child_process'
import {
  chmod,
  copyFile,
  cp,
  lstat,
  mkdir,
  readlink,
  realpath,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A shell with its programs, and the libraries of Node, which the Containerfile needs beside Node. */
const PACKAGES = ['base-files', 'dash', 'coreutils', 'findutils', 'libstdc++6']
const LEFT_OUT = /^\/usr\/share\/(?:doc|man|info|locale|lintian)\//
const MORE_FOLDERS = ['dev', 'etc', 'proc', 'run', 'sys', 'tmp', 'usr/local/bin', 'var/lib/dpkg']
/** Links to folders of /usr. */
const FOLDERS = ['bin', 'lib', 'lib64', 'sbin']
const PACKAGES_MAX = 100

/**
 * Makes the root of a base image from this machine's own packages of Debian and a Node: registries with well-known images
 * cannot be reached in the tests. Its status of dpkg lists the packages.
 */
export async function makeBaseRoot(root: string, node: string): Promise<void> {
  for (const name of FOLDERS) {
    await mkdir(join(root, 'usr', name), { recursive: true })
    await symlink(`usr/${name}`, join(root, name))
  }
  for (const folder of MORE_FOLDERS) await mkdir(join(root, folder), { recursive: true })
  await chmod(join(root, 'tmp'), 0o1777)
  // Builders make these when they are missing.
  for (const name of ['hosts', 'hostname', 'resolv.conf'])
    await writeFile(join(root, 'etc', name), '')
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
  await writeFile(join(root, 'etc/group'), 'root:x:0:\n')
  const packages = await withDependencies(PACKAGES)
  const { stdout: files } = await run('dpkg-query', ['--listfiles', ...packages])
  for (const path of new Set(files.split('\n'))) {
    if (path.startsWith('/') && !LEFT_OUT.test(path)) await copyEntry(path, root)
  }
  const { stdout: status } = await run('dpkg-query', ['--status', ...packages])
  await writeFile(join(root, 'var/lib/dpkg/status'), status)
  await copyFile(node, join(root, 'usr/local/bin/node'))
}

/** Lists installed packages with those that they depend on. */
async function withDependencies(names: readonly string[]): Promise<string[]> {
  const found = new Set(names)
  for (const name of found) {
    if (found.size > PACKAGES_MAX) throw new Error(`more than ${PACKAGES_MAX} packages`)
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a format of dpkg
    const format = '--showformat=${Pre-Depends},${Depends}'
    const { stdout } = await run('dpkg-query', ['--show', format, name])
    for (const dependency of stdout.split(',')) {
      for (const alternative of dependency.split('|')) {
        const [other = ''] = alternative.trim().split(/[ (:]/)
        if (other !== '' && (await isInstalled(other))) found.add(other)
      }
    }
  }
  return [...found].sort()
}

/** False for a name that only other packages provide, too. */
async function isInstalled(name: string): Promise<boolean> {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a format of dpkg
  const shown = run('dpkg-query', ['--show', '--showformat=${db:Status-Status}', name])
  return shown.then(
    ({ stdout }) => stdout === 'installed',
    () => false,
  )
}

/** Copies a file or a link; /lib and others are links to folders of /usr on every present Debian. */
async function copyEntry(path: string, root: string): Promise<void> {
  if (FOLDERS.includes(path.slice(1))) return
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined || found.isDirectory()) return
  const target = join(root, await realpath(dirname(path)), basename(path))
  await mkdir(dirname(target), { recursive: true })
  if (found.isSymbolicLink()) await symlink(await readlink(path), target)
  else await cp(path, target)
}
