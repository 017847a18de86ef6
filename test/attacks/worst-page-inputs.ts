import type { TestRegistry } from '../support/registry.ts'
import { costlyRequests, HEAVY, input, LONG_QUERY, MANY, type WorstInputs } from './worst-inputs.ts'

const FORM_TEXT = 'a'.repeat(60_000)
const NO_BUILD = '00000000-0000-4000-8000-000000000001'
const DIGEST = `sha256:${'0'.repeat(64)}`
const CONSTRAINT = encodeURIComponent(
  Array.from({ length: 16 }, () => `!= ${'1.'.repeat(25)}`).join(' & '),
)

/** The worst inputs of pages and their forms. */
export function worstPageInputs(registry: TestRegistry): WorstInputs {
  const { read } = costlyRequests(registry)
  const page = (path: string, ...statuses: number[]) => [read(path, ...statuses)]
  const form = (path: string, fields: Record<string, string>, ...statuses: number[]) => [
    input(
      'a long form',
      () => registry.request(path, { method: 'POST', body: new URLSearchParams(fields) }),
      ...statuses,
    ),
    input(
      'a form of many fields',
      () => registry.request(path, { method: 'POST', body: new URLSearchParams(LONG_QUERY) }),
      ...[200, 303, 400, 403, 404, 413],
    ),
  ]
  const change = (name: string) =>
    form(`/deployments/${NO_BUILD}/${name}`, { a: FORM_TEXT }, 400, 404)
  return {
    'GET /assets/style.css': page('/assets/style.css'),
    'GET /assets/script.js': page('/assets/script.js'),
    'GET /login': page('/login'),
    'POST /login': form('/login', { name: 'admin', secret: FORM_TEXT }, 400, 403, 429),
    'POST /logout': form('/logout', { a: FORM_TEXT }, 200, 303, 400),
    'GET /': page('/'),
    'GET /repositories': page('/repositories'),
    'GET /search': [
      ...page(`/search?q=${'a'.repeat(256)}`),
      ...page(`/search?q=bigstringaf${CONSTRAINT}`, 200, 400),
    ],
    'GET /r/*repository': page(`/r/${HEAVY}`),
    'GET /r/*repository/-/tags': page(`/r/${MANY}/-/tags`),
    'GET /r/*repository/-/tags/:tag': page(`/r/${MANY}/-/tags/live`),
    'POST /r/*repository/-/tags/:tag/rollback': form(
      `/r/${MANY}/-/tags/live/rollback`,
      { digest: FORM_TEXT },
      400,
    ),
    'GET /r/*repository/-/images': page(`/r/${HEAVY}/-/images`),
    'GET /r/*repository/-/images/:reference': page(`/r/${HEAVY}/-/images/a`),
    'GET /r/*repository/-/images/:reference/graph': page(`/r/${HEAVY}/-/images/a/graph`, 200, 503),
    'GET /r/*repository/-/images/:reference/size': page(`/r/${HEAVY}/-/images/a/size`, 200, 503),
    'GET /r/*repository/-/compare/:pair': page(`/r/${HEAVY}/-/compare/a...b`),
    'GET /r/*repository/-/builds': page(`/r/${HEAVY}/-/builds`),
    'GET /r/*repository/-/builds/:build': page(`/r/${HEAVY}/-/builds/${NO_BUILD}`, 404),
    'GET /packages': page('/packages'),
    'GET /packages/:ecosystem/:name': page(`/packages/opam/bigstringaf?version=${CONSTRAINT}`),
    'GET /kernels/:digest': page(`/kernels/${DIGEST}`, 200, 404),
    'GET /inputs/:inputId': page(`/inputs/${'0'.repeat(64)}`, 200, 404),
    'GET /deployments': page('/deployments'),
    'GET /deployments/:deployment': page(`/deployments/${NO_BUILD}`, 404),
    'GET /deployments/:deployment/stream': page(`/deployments/${NO_BUILD}/stream`, 303, 404),
    'POST /deployments/:deployment/pause': change('pause'),
    'POST /deployments/:deployment/resume': change('resume'),
    'POST /deployments/:deployment/cancel': change('cancel'),
    'POST /deployments/:deployment/retry': change('retry'),
    'GET /hosts': page(`/hosts?label=${'a'.repeat(60)}%3D${'b'.repeat(60)}`),
    'GET /hosts/:host': page('/hosts/missing', 404),
    'POST /hosts/:host/approve': form(
      '/hosts/missing/approve',
      { fingerprint: 'a', repositories: 'a '.repeat(30_000) },
      ...[400, 404],
    ),
    'POST /hosts/:host/revoke': form('/hosts/missing/revoke', { a: FORM_TEXT }, 400, 404),
    'GET /credentials': page('/credentials'),
    'POST /credentials/:name/revoke': form('/credentials/none/revoke', { a: FORM_TEXT }, 404),
    'POST /sessions/:session/end': form(`/sessions/${NO_BUILD}/end`, { a: FORM_TEXT }, 404),
    // The page to which the answer leads.
    'POST /sessions/end-others': form('/sessions/end-others', { a: FORM_TEXT }, 200),
    'GET /webhooks': page('/webhooks'),
    'GET /webhooks/:name': page('/webhooks/none', 404),
    'GET /webhooks/:name/deliveries/:event': page(`/webhooks/none/deliveries/${NO_BUILD}`, 404),
    'POST /webhooks/:name/pause': form('/webhooks/none/pause', { a: FORM_TEXT }, 404),
    'POST /webhooks/:name/resume': form('/webhooks/none/resume', { a: FORM_TEXT }, 404),
    'POST /webhooks/:name/test': form('/webhooks/none/test', { a: FORM_TEXT }, 404),
    'POST /webhooks/:name/redeliver': form(
      '/webhooks/none/redeliver',
      { after: '2030-01-31T12:00', states: FORM_TEXT },
      400,
    ),
    'POST /webhooks/:name/deliveries/:event/redeliver': form(
      `/webhooks/none/deliveries/${NO_BUILD}/redeliver`,
      { a: FORM_TEXT },
      404,
    ),
  }
}
