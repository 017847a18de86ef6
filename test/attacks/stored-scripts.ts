import { expect, vi } from 'vitest'
import { startIssuer, type TestIssuer } from '../auth/issuer.ts'
import { report } from '../deployments/reporting.ts'
import {
  ask,
  EMPTY,
  expectedOf,
  fixture,
  fixtureOf,
  formOf,
  KERNEL,
  newestBuild,
  pushLayers,
  UNIKERNEL,
} from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import { enrolHost } from '../support/hosts.ts'
import { pushImage, putManifest } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { elfWithSymbols } from '../unikernel/sizes/elf-with-symbols.ts'
import { Receivers } from '../webhooks/receiver.ts'
import { createWebhook, listDeliveries } from '../webhooks/webhook-client.ts'

/** The settings of a registry in which `storeScripts` can store. */
export const SCRIPT_SETTINGS = {
  ROOKERY_OIDC_ALLOW_NETWORKS: '127.0.0.0/8',
  ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.0/8',
}

/** Characters that hide or reorder text, and control a terminal. */
const HIDDEN = '\u202egpj.exe\u202c \u200b\u2066 \u001b[31mred\u001b]0;title\u0007 \u009b2J'

/** A text that is a script in a page, in the fewest characters. `field`: its name, which the script reports. */
export function shortScript(field: string): string {
  return `<img/src/onerror=ran('${field}')>`
}

/** Every way in which a text may become a script, a request to another server, or an element. */
export function scripts(field: string, other = 'https://other.example/'): string[] {
  const call = `ran('${field}')`
  const encoded = [...call].map((one) => `&#${one.charCodeAt(0)};`).join('')
  return [
    shortScript(field),
    `<script>${call}</script>`,
    `"><img src=x onerror="${call}">`,
    `'><svg onload="${call}"><script>${call}</script></svg>`,
    `</textarea></title></style></pre></code></svg><script>${call}</script>`,
    `javascript:${call}`,
    `[run](javascript:${encodeURIComponent(call)}) ![run](${other}) [data](data:text/html,${call})`,
    `<a href="javascript:${call}" autofocus onfocus="${call}" style="position:fixed">run</a>`,
    `&lt;script&gt;${call}&lt;/script&gt;<img src=x onerror="${encoded}">`,
    `%3Cscript%3E${encodeURIComponent(call)}%3C/script%3E`,
    `\${${call}} {{${call}}} <!--<script>${call}//--></script> ]]><script>${call}</script>`,
    `<iframe srcdoc="<script>${call}</script>"></iframe><object data="${other}"></object>`,
    `<style>*{background:url(${other})}</style><link rel=stylesheet href="${other}">`,
    `<meta http-equiv=refresh content="0;url=${other}"><base href="${other}">`,
    `<form action="${other}"><button autofocus formaction="javascript:${call}">send</button></form>`,
    `<math><mtext><table><mglyph><style><img src=x onerror="${call}"></style></mglyph></table></mtext></math>`,
  ]
}

/** The same on one line. */
export function scriptLine(field: string): string {
  return scripts(field).join(' ')
}

/** The content that `storeScripts` stores. */
export type StoredScripts = {
  readonly repository: string
  readonly tag: string
  /** Digests of manifests: without scripts, with them, and of an index. */
  readonly plain: string
  readonly image: string
  readonly annotated: string
  readonly kernel: string
  readonly inputId: string
  readonly build: string
  readonly failedBuild: string
  /** Ids of deployments: one that failed, one that was cancelled, and one that the host cannot run. */
  readonly deployment: string
  readonly cancelled: string
  readonly refused: string
  readonly host: string
  readonly webhook: string
  /** The id of an event whose receiver answered with scripts. */
  readonly event: string
}

const REPOSITORY = 'hello/key'
const DONE = { timeout: 20_000, interval: 20 }
const JSON_TYPE = { 'content-type': 'application/json' }

/** Stores scripts in every field that a pusher, a builder, a CI system, a host or an owner of a webhook writes. */
export async function storeScripts(registry: TestRegistry): Promise<StoredScripts> {
  const [issuer, receivers] = [await startIssuer(), new Receivers()]
  try {
    const pusher = await hostilePusher(registry, issuer)
    const webhook = await hostileWebhook(registry, receivers)
    const plain = await pusher.post(formOf('hello-key-2'))
    const host = await enrolHost(registry, { name: 'web-1', labels: { site: 'nantes' } })
    const follows = { repository: REPOSITORY, tag: 'live' }
    const agent = shortScript('agent')
    await report(host, { follows, kernel: plain.kernel, state: 'healthy', agent })
    const image = await pusher.post(hostileForm())
    const build = await newestBuild(registry, REPOSITORY)
    const deployment = await newestDeployment(registry, { counts: { inFlight: 1 } })
    await report(host, {
      ...{ follows, kernel: plain.kernel, state: 'rolled-back', deployment, reason: 'exit', agent },
      exit: { code: 2, meaning: shortScript('exit-meaning') },
      message: scripts('message').join('\n').slice(0, 900),
      log: { text: `${HIDDEN}\n${scripts('log').slice(0, 10).join('\n')}` },
    })
    await newestDeployment(registry, { finishedAt: expect.any(String) })
    const { id: cancelled } = await pusher.send<{ id: string }>(
      `deployments/${deployment}/retry`,
      201,
    )
    await pusher.send(`deployments/${cancelled}/cancel`, 200)
    const devices = ['net:service', `net:${shortScript('unit-device')}`]
    await report(host, { follows, kernel: plain.kernel, state: 'healthy', devices, agent })
    await pusher.post(formOf('hello-key-2'))
    await pusher.post(hostileForm())
    const refused = await newestDeployment(registry, { counts: { refused: 1 } })
    return {
      ...{ repository: REPOSITORY, tag: 'live', plain: plain.digest, image: image.digest },
      ...{ kernel: image.kernel, build, deployment, cancelled, refused },
      ...{ host: host.name, webhook: webhook.name, event: webhook.event },
      annotated: await pushAnnotated(registry, image.digest),
      inputId: expectedOf('hello-key-2').input_id,
      failedBuild: await reportFailedBuild(registry),
    }
  } finally {
    await issuer.close()
    await receivers.close()
  }
}

/** A webhook that describes itself by scripts, and whose receiver answers with scripts. */
async function hostileWebhook(registry: TestRegistry, receivers: Receivers) {
  const script = shortScript('receiver')
  const { url } = await receivers.start((_, res) => {
    res.writeHead(410, script, { 'content-type': 'text/html', 'x-text': script }).end(script)
  })
  const webhook = await createWebhook(registry, `${url}/?${shortScript('webhook-url')}`, '**', {
    description: shortScript('webhook-description'),
    headers: { 'x-text': shortScript('webhook-header') },
    body: { text: shortScript('webhook-body') },
  })
  await pushImage(registry, 'hello/receiver', 'live')
  const event = await vi.waitFor(async () => {
    const deliveries = await listDeliveries(registry, webhook.name)
    const answered = deliveries.find(({ status }) => status === 410)
    expect(answered).toBeDefined()
    return answered?.event ?? ''
  }, DONE)
  return { name: webhook.name, event }
}

/** A job of a CI system whose name is a script. */
async function hostilePusher(registry: TestRegistry, issuer: TestIssuer) {
  const made = await registry.request('/api/v1/policies', {
    method: 'POST',
    headers: JSON_TYPE,
    body: JSON.stringify({
      ...{ name: 'ci', issuer: issuer.url, audience: 'https://registry.example' },
      ...{ conditions: { repository: 'octo/*' }, repositories: ['**'], actions: ['pull', 'push'] },
    }),
  })
  expect(made.status).toBe(201)
  const subject_token = await issuer.token({ sub: shortScript('actor') })
  const exchanged = await registry.anonymous('/token', {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token,
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      scope: `repository:${REPOSITORY}:pull,push`,
    }),
  })
  expect(exchanged.status).toBe(200)
  const { access_token } = (await exchanged.json()) as { access_token: string }
  const headers = { authorization: `Bearer ${access_token}` }
  const send = async <T>(path: string, status: number, body?: FormData): Promise<T> => {
    const init = { method: 'POST', headers, ...(body && { body }) }
    const answer = await registry.anonymous(`/api/v1/${path}`, init)
    const text = await answer.text()
    expect({ status: answer.status, text }).toMatchObject({ status })
    return JSON.parse(text) as T
  }
  return {
    /** Pushes an image to the tag. */
    async post(form: FormData): Promise<{ digest: string; kernel: string }> {
      const path = `repositories/${REPOSITORY}/images?tag=live`
      const { digest } = await send<{ digest: string }>(path, 201, form)
      const kernel = form.get('kernel') as Blob
      return { digest, kernel: digestOf(Buffer.from(await kernel.arrayBuffer())) }
    },
    send,
  }
}

/** Waits until the newest deployment has these fields, and returns its id. */
async function newestDeployment(registry: TestRegistry, fields: object): Promise<string> {
  const path = `repositories/${REPOSITORY}/deployments?n=1`
  return vi.waitFor(async () => {
    const { deployments } = await ask(registry, path)
    expect(deployments[0]).toMatchObject(fields)
    return deployments[0].id
  }, DONE)
}

/** A string of opam. */
const opamString = (text: string) => `"${text.replace(/[\\"]/g, (one) => `\\${one}`)}"`

/** An image with scripts in each of its files, and in their names. */
function hostileForm(): FormData {
  const source = `javascript:${shortScript('source-url')}`
  const vendored = `[${opamString(source)} ${opamString(shortScript('vendored-folder'))}]`
  const opam = fixtureOf('hello-key-1', 'opam-switch')
    .toString()
    .replace(
      /synopsis: "A MirageOS unikernel printing a greeting"\n.*\n/,
      [
        `synopsis: ${opamString(scriptLine('synopsis').slice(0, 390))}`,
        `description: ${opamString(`${scriptLine('description')} ${HIDDEN}`)}`,
        `homepage: ${opamString(`javascript:${shortScript('homepage')}`)}`,
        `x-opam-monorepo-duniverse-dirs: [${vendored}]\n`,
      ].join('\n'),
    )
    .replace(/src: "https:\/\/github.com[^"]*"/, `src: ${opamString(source)}`)
  const environment = fixtureOf('hello-key-1', 'build-environment')
    .toString()
    .replace('OS_DISTRIBUTION=debian', `OS_DISTRIBUTION=${shortScript('distribution')}`)
  const form = formOf('hello-key-1', {
    'opam-switch': Buffer.from(opam),
    'system-packages': Buffer.from(
      `${fixtureOf('hello-key-1', 'system-packages')}\n${shortScript('host-package')}=1.0\n`,
    ),
    'build-environment': Buffer.from(
      `${environment}\nEVIL=${scriptLine('variable').slice(0, 190)}\n${shortScript('environment-line')}\n`,
    ),
    'build-hashes': Buffer.from(opamString(shortScript('file-problem'))),
    debug: twin(),
    readme: Buffer.from(`${scripts('readme').join('\n\n')}\n\n${HIDDEN}\n`),
    console: Buffer.from(`${HIDDEN}\n${scripts('console').join('\n')}\n`),
    script: Buffer.from(`#!/bin/sh\n${scripts('build-script').join('\n')}\n`),
    kernel: null,
  })
  const title = `${shortScript('file-name').replaceAll('/', ' ')}.hvt`
  form.append('kernel', new Blob([new Uint8Array(kernelWithDevice())]), title)
  return form
}

const DEVICE_NAME_BYTES = 68

/** A kernel of Solo5 whose device has a script as its name. */
function kernelWithDevice(): Buffer {
  const bytes = Buffer.from(fixture('elf/mini-net.hvt'))
  const at = bytes.indexOf('service\0')
  const name = Buffer.alloc(DEVICE_NAME_BYTES)
  name.write(shortScript('device'))
  name.copy(bytes, at)
  return bytes
}

/** A debug twin whose sections and symbols are scripts. */
function twin(): Buffer {
  const names = ['c', 'solo5', 'library'].map((kind) => shortScript(`symbol-of-${kind}`))
  const [c = '', solo5 = '', library = ''] = names
  const symbols = [c, `solo5_${solo5}`, `camlEvil${library}__Module__code_begin`]
  return elfWithSymbols([
    {
      name: `.text${shortScript('section')}`,
      size: 90_000,
      symbols: symbols.map((name, index) => ({ name, at: 30_000 * index })),
    },
    { name: shortScript('unnamed-section'), size: 60_000 },
  ])
}

/** Pushes an image and an index with scripts in their annotations and types, and a referrer of an image. */
async function pushAnnotated(registry: TestRegistry, subject: string): Promise<string> {
  const annotations = {
    'org.opencontainers.image.title': shortScript('annotation-title'),
    'org.opencontainers.image.description': scriptLine('annotation-description'),
    'org.opencontainers.image.url': `javascript:${shortScript('annotation-url')}`,
    [shortScript('annotation-name')]: shortScript('annotation'),
  }
  const files = [
    { mediaType: KERNEL, bytes: fixture('elf/mini-net.hvt'), title: shortScript('layer-title') },
    { mediaType: shortScript('layer-type'), bytes: Buffer.from(scriptLine('layer')) },
  ]
  const more = { ...UNIKERNEL, annotations }
  const pushed = await pushLayers(registry, REPOSITORY, 'annotated', files, more)
  expect(pushed.status).toBe(201)
  const digest = pushed.headers.get('docker-content-digest') ?? ''
  const described = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest, size: 1 }
  await pushImage(registry, REPOSITORY, 'signature', {
    subject: { ...described, digest: subject },
    artifactType: shortScript('artifact-type'),
    config: EMPTY,
    annotations,
  })
  const size = Number(
    (await registry.request(`/v2/${REPOSITORY}/manifests/annotated`)).headers.get('content-length'),
  )
  const platform = { os: shortScript('os'), architecture: shortScript('architecture') }
  const index = await putManifest(registry, REPOSITORY, 'index', {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [{ ...described, size, platform, annotations }],
    annotations,
  })
  expect(index.status).toBe(201)
  return digest
}

async function reportFailedBuild(registry: TestRegistry): Promise<string> {
  const form = new FormData()
  const file = (name: string, text: string) => form.append(name, new Blob([text]), name)
  file('console', `${HIDDEN}\n${scripts('failed-console').join('\n')}\n`)
  file('script', scripts('failed-script').join('\n'))
  form.append('result', 'error')
  form.append('message', scriptLine('build-message').slice(0, 900))
  const path = `/api/v1/repositories/${REPOSITORY}/builds`
  const answer = await registry.request(path, { method: 'POST', body: form })
  const text = await answer.text()
  expect({ status: answer.status, text }).toMatchObject({ status: 201 })
  return (JSON.parse(text) as { build: string }).build
}
