import { expectedOf, fixture, formOf } from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import type { TestRegistry } from '../support/registry.ts'
import { heavyFiles, kernelOfNotes, numbers } from './worst-files.ts'
import { worstHostInputs } from './worst-host-inputs.ts'
import {
  costlyRequests,
  HEAVY,
  input,
  JSON_BODY,
  LONG_QUERY,
  MANY,
  nextName as next,
  octets,
  type WorstInputs,
} from './worst-inputs.ts'

const IMAGES = `/api/v1/repositories/${HEAVY}/images`
/** Not in HEAVY: its name ends like a route, so that this path would name a tag. */
const BUILDS = '/api/v1/repositories/heavy/failed/builds'
const NO_BUILD = '00000000-0000-4000-8000-000000000001'

/** Reports a failed build with the largest inputs. */
function reportFailure(registry: TestRegistry): Promise<Response> {
  const body = formOf('hello-key-1', { ...heavyFiles(), kernel: null })
  body.append('console', new Blob(['failed\n'.repeat(100_000)]), 'console')
  return registry.request(BUILDS, { method: 'POST', body })
}

async function consoleOf(registry: TestRegistry): Promise<Response> {
  const { build } = (await (await reportFailure(registry)).json()) as { build: string }
  return registry.request(`${BUILDS}/${build}/console`)
}

const postImage = (registry: TestRegistry, tag: string) =>
  registry.request(`${IMAGES}?tag=${tag}`, {
    method: 'POST',
    body: formOf('hello-key-1', heavyFiles()),
  })

/** Patterns with as many stars as they may have. */
const WORST_HIT_FILTER = `tagged=true&tag=${'a*'.repeat(100)}&repository=${'a*'.repeat(100)}`

/** The worst inputs of all routes but those below /v2. `cursor` is before the largest events. */
export function worstApiInputs(registry: TestRegistry, cursor: string): WorstInputs {
  const { read, send, json, deep } = costlyRequests(registry)
  const patterns = numbers(100).map((index) => `a/b${'*'.repeat(1)}${index}`)
  const globs = numbers(8).map((index) => `${'*a'.repeat(50)}${index}`)
  const webhook = () => ({
    name: next(),
    url: `http://127.0.0.1:8443/${'a'.repeat(1_900)}`,
    repositories: ['heavy/**'],
    tags: globs,
    headers: Object.fromEntries(numbers(19).map((index) => [`X-H${index}`, 'v'.repeat(200)])),
    description: 'd'.repeat(1_000),
    types: ['image.tag.updated'],
    body: { a: '{{tag}}'.repeat(50), b: numbers(1_200).map(() => 0) },
  })
  const newWebhook = async () => {
    const answer = await registry.request('/api/v1/webhooks', {
      method: 'POST',
      headers: JSON_BODY,
      body: JSON.stringify(webhook()),
    })
    return ((await answer.json()) as { name: string }).name
  }
  const credential = () => ({
    name: next(),
    repositories: patterns,
    actions: ['pull'],
    tags: ['*'],
  })
  const rollout = () => ({
    repositories: numbers(50).map((index) => `${'*a'.repeat(20)}${index}`),
    tags: numbers(50).map((index) => `${'*a'.repeat(20)}${index}`),
    require: Object.fromEntries(numbers(32).map((index) => [`label${index}`, 'v'.repeat(63)])),
  })
  const policy = () => ({
    name: next(),
    issuer: 'https://ci.example.org',
    audience: 'a',
    conditions: Object.fromEntries(
      numbers(31).map((index) => [`c${index}`, `v${'*a'.repeat(100)}`]),
    ),
    repositories: patterns,
    actions: ['pull'],
  })
  const scopes = numbers(100)
    .map((index) => `scope=repository:a/${index}:pull,push,delete`)
    .join('&')
  const image = `${IMAGES}/a`
  const uploadUrl = async () => {
    const made = await registry.request(`/api/v1/repositories/${MANY}/tags/${next()}/upload-urls`, {
      method: 'POST',
    })
    return new URL(((await made.json()) as { url: string }).url).pathname
  }
  const events = '/api/v1/events'
  const filter = `${globs.map((glob) => `tag=${glob}&repository=a${glob}`).join('&')}&${numbers(42)
    .map((index) => `repository=a/${index}&tag=t${index}`)
    .join('&')}`
  return {
    'GET /healthz': [read('/healthz')],
    'GET /readyz': [read('/readyz')],
    'GET /metrics': [read('/metrics')],
    'GET /token': [
      input('many scopes', () =>
        registry.request(
          `/token?service=x&offline_token=true&${scopes}&${LONG_QUERY.slice(0, 40_000)}`,
        ),
      ),
    ],
    'POST /token': [
      input('a large form', () =>
        registry.request('/token', {
          method: 'POST',
          body: new URLSearchParams(
            `grant_type=password&username=admin&password=${registry.password}&${scopes}&${'a=%41&'.repeat(9_000)}`,
          ),
        }),
      ),
      input(
        'a large identity token',
        () =>
          registry.request('/token', {
            method: 'POST',
            body: new URLSearchParams({
              grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
              subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
              subject_token: `${'a.'.repeat(20_000)}`,
            }),
          }),
        400,
        401,
      ),
    ],
    'GET /agent': [read('/agent')],
    'GET /agent.sha256': [read('/agent.sha256')],
    'GET /.well-known/jwks.json': [read('/.well-known/jwks.json')],
    'GET /.well-known/openid-configuration': [read('/.well-known/openid-configuration', 200, 404)],
    'POST /api/v1/credentials': [
      json('POST', '/api/v1/credentials', credential, 201),
      deep('POST', '/api/v1/credentials'),
    ],
    'GET /api/v1/credentials': [read('/api/v1/credentials?n=1000')],
    'POST /api/v1/credentials/:name/rotate-secret': [
      deep('POST', '/api/v1/credentials/missing/rotate-secret'),
      json('POST', '/api/v1/credentials/missing/rotate-secret', () => ({}), 404),
    ],
    'DELETE /api/v1/credentials/:name': [send('DELETE', '/api/v1/credentials/missing', 404)],
    'GET /api/v1/sessions': [read('/api/v1/sessions?actor=admin')],
    'DELETE /api/v1/sessions': [send('DELETE', `/api/v1/sessions?actor=${'a'.repeat(8000)}`)],
    'DELETE /api/v1/sessions/:session': [send('DELETE', '/api/v1/sessions/missing', 404)],
    'POST /api/v1/policies': [
      json('POST', '/api/v1/policies', policy, 201),
      deep('POST', '/api/v1/policies'),
    ],
    'GET /api/v1/policies': [read('/api/v1/policies?n=1000')],
    'POST /api/v1/policies/test': [
      json('POST', '/api/v1/policies/test', () => ({ token: 'a.'.repeat(8_000) }), 200, 400),
      deep('POST', '/api/v1/policies/test'),
    ],
    'GET /api/v1/policies/:name': [read('/api/v1/policies/missing', 404)],
    'DELETE /api/v1/policies/:name': [send('DELETE', '/api/v1/policies/missing', 404)],
    ...worstHostInputs(registry),
    'DELETE /api/v1/tokens/:id': [
      send('DELETE', `/api/v1/tokens/${crypto.randomUUID()}`, 204, 404),
    ],
    'GET /api/v1/repositories/*repository/settings': [
      read(`/api/v1/repositories/${MANY}/settings`),
    ],
    'PUT /api/v1/repositories/*repository/settings': [
      json('PUT', `/api/v1/repositories/${MANY}/settings`, () => ({
        immutableTags: numbers(100).map((index) => `never${index}-${'*a'.repeat(50)}`),
      })),
      deep('PUT', `/api/v1/repositories/${MANY}/settings`),
    ],
    'DELETE /api/v1/repositories/*repository': [
      send('DELETE', `/api/v1/repositories/${'a/'.repeat(100)}missing`, 404),
    ],
    'POST /api/v1/repositories/*repository/tags/:tag/upload-urls': [
      deep('POST', `/api/v1/repositories/${MANY}/tags/x/upload-urls`),
      send('POST', `/api/v1/repositories/${MANY}/tags/x/upload-urls`, 201),
    ],
    'PUT /upload/:secret': [
      input(
        'the largest image',
        async () =>
          registry.anonymous(await uploadUrl(), {
            method: 'PUT',
            body: formOf('hello-key-1', heavyFiles()),
          }),
        201,
      ),
    ],
    'PUT /upload/:secret/:file': [
      input(
        'a kernel of many notes',
        async () =>
          registry.anonymous(`${await uploadUrl()}/k.hvt`, {
            method: 'PUT',
            ...octets(kernelOfNotes()),
          }),
        201,
      ),
    ],
    'POST /api/v1/repositories/*repository/builds': [
      input('the largest inputs', () => reportFailure(registry), 201),
    ],
    'GET /api/v1/repositories/*repository/deployments': [
      read(`/api/v1/repositories/${HEAVY}/deployments?n=100&tag=${'a'.repeat(128)}`),
    ],
    'GET /api/v1/rollouts': [read('/api/v1/rollouts?n=1000')],
    'GET /api/v1/rollouts/:name': [read('/api/v1/rollouts/missing', 404)],
    'PUT /api/v1/rollouts/:name': [
      json('PUT', '/api/v1/rollouts/worst', rollout, 200, 201),
      deep('PUT', '/api/v1/rollouts/worst'),
    ],
    'DELETE /api/v1/rollouts/:name': [send('DELETE', '/api/v1/rollouts/missing', 404)],
    ...Object.fromEntries(
      ['pause', 'resume', 'cancel', 'retry'].map((action) => [
        `POST /api/v1/deployments/:deployment/${action}`,
        [send('POST', `/api/v1/deployments/${NO_BUILD}/${action}`, 404)],
      ]),
    ),
    'GET /api/v1/deployments': [read('/api/v1/deployments?n=100&state=rolling')],
    'GET /api/v1/deployments/:deployment': [read(`/api/v1/deployments/${NO_BUILD}`, 404)],
    'GET /api/v1/repositories/*repository/builds': [
      input('the largest inputs', () => reportFailure(registry), 201),
      read(`${BUILDS}?n=1000`),
      read(`${BUILDS}?n=1000&platform=p&result=error&builder=b&input=${'0'.repeat(64)}`),
    ],
    'GET /api/v1/repositories/*repository/builds/:build': [
      input('after the largest inputs', () => reportFailure(registry), 201),
      read(`${BUILDS}/${NO_BUILD}`, 404),
    ],
    'GET /api/v1/repositories/*repository/builds/:build/console': [
      input('the console beside the largest lists', () => consoleOf(registry)),
    ],
    'GET /api/v1/repositories/*repository/builds/:build/script': [
      read(`${BUILDS}/${NO_BUILD}/script`, 404),
    ],
    'GET /api/v1/repositories/*repository/builds/:build/readme': [
      read(`${BUILDS}/${NO_BUILD}/readme`, 404),
    ],
    'GET /api/v1/repositories/*repository/images/:reference/console': [
      read(`${image}/console`, 200, 404),
    ],
    'GET /api/v1/repositories/*repository/images/:reference/script': [
      read(`${image}/script`, 200, 404),
    ],
    'GET /api/v1/repositories/*repository/images/:reference/readme': [
      read(`${image}/readme`, 200, 404),
    ],
    'POST /api/v1/repositories/*repository/images': [
      input('the largest image', () => postImage(registry, next()), 201),
    ],
    'GET /api/v1/repositories/*repository/images': [read(`${IMAGES}?n=1000`)],
    'HEAD /api/v1/repositories/*repository/images/:reference/kernel': [
      send('HEAD', `${image}/kernel`),
    ],
    'GET /api/v1/repositories/*repository/images/:reference/kernel': [read(`${image}/kernel`)],
    'GET /api/v1/repositories/*repository/images/:reference': [
      input('the largest image, not yet described', () => fresh(registry, '')),
      read(image),
    ],
    'GET /api/v1/repositories/*repository/images/:reference/compare/:other': [
      input('the largest images, not yet compared', () => fresh(registry, '/compare/a')),
      read(`${image}/compare/b`),
    ],
    'GET /api/v1/repositories/*repository/images/:reference/compare': [
      read(`${image}/compare?with=latest`),
    ],
    'GET /api/v1/images': [
      read(
        `/api/v1/images?n=1000&${'device=net&'.repeat(63)}device-count=63&tagged=false&repository=a/**`,
      ),
    ],
    'GET /api/v1/kernels/:digest': [
      read(`/api/v1/kernels/${digestOf(fixture('builds/hello-key-1/bin/hello-key.hvt'))}?n=1000`),
      read(
        `/api/v1/kernels/${digestOf(fixture('builds/hello-key-1/bin/hello-key.hvt'))}?n=1000&${WORST_HIT_FILTER}`,
      ),
    ],
    'GET /api/v1/inputs/:inputId': [
      read(`/api/v1/inputs/${'0'.repeat(64)}`),
      read(
        `/api/v1/inputs/${expectedOf('hello-key-1').input_id}?tagged=true&tag=${'a*'.repeat(100)}`,
      ),
    ],
    'GET /api/v1/repositories/*repository/images/:reference/documents/:format': [
      'cyclonedx',
      'spdx',
      'slsa',
    ].flatMap((format) => [
      input(`the largest image, not yet in ${format}`, () =>
        fresh(registry, `/documents/${format}`),
      ),
      read(`${image}/documents/${format}`),
    ]),
    'GET /api/v1/repositories/*repository/images/:reference/dependencies': [
      input('the largest image, not yet described', () => fresh(registry, '/dependencies')),
      input('the largest image, one package', () => fresh(registry, '/dependencies?package=lwt')),
      read(`${image}/dependencies`),
    ],
    'GET /api/v1/repositories/*repository/images/:reference/sizes': [
      input('the largest image, not yet measured', () => fresh(registry, '/sizes')),
      read(`${image}/sizes`),
    ],
    'GET /api/v1/packages/:ecosystem/:name': [
      input('many versions and relations', () =>
        registry.request(
          `/api/v1/packages/opam/many?n=1000&version=${encodeURIComponent(
            numbers(16)
              .map((index) => `!= ${'1.'.repeat(20)}${index}`)
              .join(' & '),
          )}`,
        ),
      ),
      read('/api/v1/packages/opam/many'),
    ],
    'GET /api/v1/sources': [
      read('/api/v1/sources?n=1000&from=https://github.com/a/many'),
      read(`/api/v1/sources?n=1000&from=https://github.com/a/many%23${'/a'.repeat(900)}`),
      read('/api/v1/sources?n=1000&tagged=true&from=https://github.com/a/many'),
      read(`/api/v1/sources?from=https://a.b/c/d${'/tree'.repeat(350)}`, 200),
    ],
    'GET /api/v1/repositories/*repository/tags/:tag/history': [
      read(`/api/v1/repositories/${MANY}/tags/live/history?n=1000`),
    ],
    'POST /api/v1/repositories/*repository/tags/:tag/rollback': [
      deep('POST', `/api/v1/repositories/${MANY}/tags/live/rollback`),
    ],
    'POST /api/v1/webhooks': [
      json('POST', '/api/v1/webhooks', webhook, 201),
      deep('POST', '/api/v1/webhooks'),
    ],
    'GET /api/v1/webhooks': [read('/api/v1/webhooks?n=1000')],
    'GET /api/v1/webhooks/:name': [
      input('the largest webhook', async () =>
        registry.request(`/api/v1/webhooks/${await newWebhook()}`),
      ),
    ],
    'PATCH /api/v1/webhooks/:name': [
      input('the largest change', async () => {
        const { name, url: _, ...change } = { ...webhook(), name: await newWebhook() }
        return registry.request(`/api/v1/webhooks/${name}`, {
          method: 'PATCH',
          headers: JSON_BODY,
          body: JSON.stringify(change),
        })
      }),
    ],
    'DELETE /api/v1/webhooks/:name': [
      input(
        'the largest webhook',
        async () =>
          registry.request(`/api/v1/webhooks/${await newWebhook()}`, { method: 'DELETE' }),
        204,
      ),
    ],
    'POST /api/v1/webhooks/:name/rotate-secret': [
      deep('POST', '/api/v1/webhooks/all/rotate-secret'),
    ],
    'POST /api/v1/webhooks/:name/test': [send('POST', '/api/v1/webhooks/all/test', 200, 202)],
    'GET /api/v1/webhooks/:name/deliveries': [read('/api/v1/webhooks/all/deliveries?n=1000')],
    'GET /api/v1/webhooks/:name/deliveries/:event': [
      read(`/api/v1/webhooks/all/deliveries/${crypto.randomUUID()}`, 404),
    ],
    'POST /api/v1/webhooks/:name/deliveries/:event/redeliver': [
      send('POST', `/api/v1/webhooks/all/deliveries/${crypto.randomUUID()}/redeliver`, 404),
    ],
    'POST /api/v1/webhooks/:name/redeliver': [
      deep('POST', '/api/v1/webhooks/all/redeliver'),
      json(
        'POST',
        '/api/v1/webhooks/all/redeliver',
        () => ({ after: '2020-01-01T00:00:00Z' }),
        200,
        202,
      ),
    ],
    'GET /api/v1/events': [
      input('a large snapshot', () => registry.request(`${events}?snapshot=1&n=1000&tag=l*`)),
      input('the largest events', () => registry.request(`${events}?after=${cursor}&n=1000`)),
      input('many patterns', () => registry.request(`${events}?after=${cursor}&n=1000&${filter}`)),
    ],
    'GET /api/v1/audit': [read('/api/v1/audit?n=1000')],
  }
}

/** Pushes a new large image, and requests what nobody requested before. */
async function fresh(registry: TestRegistry, path: string): Promise<Response> {
  const pushed = await postImage(registry, 'fresh')
  const { digest } = (await pushed.json()) as { digest: string }
  return registry.request(`${IMAGES}/${digest}${path}`)
}
