import type { AdminPassword } from '../../server/admin-password.ts'
import { VERSION } from '../../server/version.ts'
import { quoted } from '../registry/login.ts'

export type BannerOptions = {
  readonly url: string
  readonly publicUrl: string | undefined
  readonly adminPassword: AdminPassword
  /** True: the text is printed on a terminal, and may have the password. Logs keep everything else. */
  readonly onTerminal: boolean
}

const LOOPBACK = /^http:\/\/(?:localhost|127\.|\[::1\])/

/** The text that `rookery serve` prints when it has started: its address, the admin password and a push. */
export function startBanner(options: BannerOptions): string {
  const { url, publicUrl, adminPassword, onTerminal } = options
  const base = publicUrl ?? loopbackUrl(url)
  const host = base.replace(/^https?:\/\//, '')
  // The client uses HTTP without TLS on loopback by itself.
  const needsPlainHttp = base.startsWith('http://') && !LOOPBACK.test(base)
  return [
    `Rookery ${VERSION} listens on ${url}`,
    ...(publicUrl === undefined ? [] : [`Clients reach it at ${publicUrl}`]),
    '',
    ...passwordLines(adminPassword, onTerminal),
    '',
    "Push an orb build (DIR is orb's output folder) or a kernel:",
    `  ${passwordPipe(adminPassword)} \\`,
    `  npx rookery push DIR ${host}/hello/world:v1 \\`,
    `    --username admin --password-stdin${needsPlainHttp ? ' --plain-http' : ''}`,
    '',
    'All commands: npx rookery --help',
    'Documentation: README.md and docs/',
    '',
  ].join('\n')
}

function passwordLines({ generated, file }: AdminPassword, onTerminal: boolean): string[] {
  if (file === undefined) {
    return [
      'The password of the user admin is the value of ROOKERY_ADMIN_PASSWORD, or in the',
      'file admin-password in the data folder of the first replica.',
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
