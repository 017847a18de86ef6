import type { AdminPassword } from '../../server/admin-password.ts'

export type BannerOptions = {
  readonly url: string
  readonly publicUrl: string | undefined
  readonly credential: AdminPassword
}

/** What a person reads when the server has started: where it is, and a push and a pull to paste. */
export function startBanner({ url, publicUrl, credential }: BannerOptions): string {
  const base = publicUrl ?? reachable(url)
  const host = base.replace(/^https?:\/\//, '')
  const plain = base.startsWith('http://') ? ' --plain-http' : ''
  const password = passwordFor(credential)
  return [
    `Rookery listens on ${url}${publicUrl === undefined ? '' : ` and is reached at ${publicUrl}`}`,
    `User admin, password ${passwordText(credential)}`,
    '',
    'Push a first image:',
    `  echo 'Hello, unikernel' > hello.txt`,
    `  oras push${plain} -u admin -p ${password} ${host}/hello/world:latest hello.txt`,
    'Pull it, without a secret:',
    `  oras pull${plain} -o pulled ${host}/hello/world:latest`,
    `Or with curl alone:`,
    `  DIGEST=sha256:$(sha256sum hello.txt | cut -d' ' -f1)`,
    `  curl -fsS -u admin:${password} -H 'Content-Type: application/octet-stream' --data-binary @hello.txt "${base}/v2/hello/world/blobs/uploads/?digest=$DIGEST"`,
    `  curl -fsSL "${base}/v2/hello/world/blobs/$DIGEST"`,
    'A token for a builder, for a quarter of an hour:',
    '  npx rookery token mint --repository hello/world --action pull --action push',
    '',
  ].join('\n')
}

function passwordText({ generated: made, file }: AdminPassword): string {
  if (made !== undefined) return `${made} (kept in ${file})`
  if (file !== undefined) return `in ${file}`
  return 'as set: ROOKERY_ADMIN_PASSWORD, or what the first start of another replica printed'
}

/** As it stands in a command: the password, or where a shell finds it. */
function passwordFor({ generated: made, file }: AdminPassword): string {
  if (made !== undefined) return made
  return file === undefined ? '"$ROOKERY_ADMIN_PASSWORD"' : `"$(cat '${file}')"`
}

/** An address that listens everywhere is reached here at loopback. */
function reachable(url: string): string {
  return url.replace('//0.0.0.0:', '//127.0.0.1:').replace('//[::]:', '//[::1]:')
}
