import { existsSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { AdminPassword } from '../../server/admin-password.ts'
import { VERSION } from '../../server/version.ts'
import { quoted } from '../../unikernel/run-line.ts'

export type BannerOptions = {
  readonly url: string
  readonly publicUrl: string | undefined
  /** The absolute path of the data folder. */
  readonly dataFolder: string
  readonly adminPassword: AdminPassword
  /** True: the text is printed on a terminal, and may have the password. Logs keep everything else. */
  readonly onTerminal: boolean
}

const LOOPBACK = /^http:\/\/(?:localhost|127\.|\[::1\])/
/** The folder of the launcher, for a PATH without this rookery. */
const LAUNCHER_FOLDER = fileURLToPath(new URL('../../../bin', import.meta.url))
const DOCS = fileURLToPath(new URL('../../../docs', import.meta.url))
/** A build, which only a clone has. */
const SAMPLE_BUILD = fileURLToPath(
  new URL('../../../test/fixtures/builds/hello-key-1', import.meta.url),
)

/**
 * The text that `rookery serve` prints when it has started: its address, the admin password, and lines for a second
 * terminal, which push a build and inspect it.
 */
export function startBanner(options: BannerOptions): string {
  const { url, publicUrl, adminPassword, dataFolder, onTerminal } = options
  const base = publicUrl ?? loopbackUrl(url)
  const image = `${base.replace(/^https?:\/\//, '')}/hello/world:v1`
  // The client uses HTTP without TLS on loopback by itself.
  const plainHttp = base.startsWith('http://') && !LOOPBACK.test(base) ? ' --plain-http' : ''
  const path = isInstalledCommand(process.argv[1] ?? '')
    ? []
    : [`  export PATH=${quoted(LAUNCHER_FOLDER)}:"$PATH"`]
  const build = existsSync(SAMPLE_BUILD) ? quoted(SAMPLE_BUILD) : '.'
  return [
    `Rookery ${VERSION} listens on ${url}`,
    ...(publicUrl === undefined ? [] : [`Clients reach it at ${publicUrl}`]),
    '',
    ...passwordLines(adminPassword, onTerminal),
    '',
    `Paste in a second terminal${build === '.' ? ", in orb's output folder" : ''}:`,
    ...path,
    `  export ROOKERY_DATA_DIR=${quoted(dataFolder)}`,
    `  ${passwordPipe(adminPassword)} \\`,
    `    rookery push --username admin --password-stdin${plainHttp} \\`,
    `    ${build} \\`,
    `    ${image}`,
    `  rookery inspect${plainHttp} \\`,
    `    ${image}`,
    '  rookery --help',
    '',
    `Or open ${base}/ in a browser.`,
    '',
    `Documentation: ${build === '.' ? DOCS : 'README.md and docs/'}`,
    '',
  ].join('\n')
}

/** True for the command of a global installation. npm has the folder .bin on PATH only for what it starts. */
function isInstalledCommand(started: string): boolean {
  return basename(started) === 'rookery' && basename(dirname(started)) !== '.bin'
}

function passwordLines({ generated, file }: AdminPassword, onTerminal: boolean): string[] {
  if (file === undefined) {
    return [
      'The password of the user admin is the value of ROOKERY_ADMIN_PASSWORD, or in the',
      'file admin-password in the data folder of the first replica. For the lines below,',
      'set ROOKERY_ADMIN_PASSWORD in the second terminal.',
    ]
  }
  const stored = ['The password of the user admin is stored in', `  ${file}`]
  return generated === undefined || !onTerminal ? stored : [...stored, `  ${generated}`]
}

/** The start of a pipe for a shell that writes the password. */
function passwordPipe({ file }: AdminPassword): string {
  return file === undefined ? 'echo "$ROOKERY_ADMIN_PASSWORD" |' : `cat ${quoted(file)} |`
}

/** The URL on loopback of a server that listens on all addresses. */
export function loopbackUrl(url: string): string {
  return url.replace('//0.0.0.0:', '//127.0.0.1:').replace('//[::]:', '//[::1]:')
}
