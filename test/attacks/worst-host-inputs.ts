import { assertionOf, enrolHost, makeHostKey } from '../support/hosts.ts'
import type { TestRegistry } from '../support/registry.ts'
import { numbers } from './worst-files.ts'
import { costlyRequests, input, nextName as next, type WorstInputs } from './worst-inputs.ts'

const LARGE = 'a'.repeat(60_000)
const CONSTRAINT = Array.from({ length: 16 }, () => `!= ${'1.'.repeat(25)}`).join(' & ')
const REPORT = {
  follows: { repository: 'a/b', tag: 'live' },
  bootId: 'boot',
  sequence: 1,
  state: 'absent',
}

/** The worst inputs of the routes of hosts. */
export function worstHostInputs(registry: TestRegistry): WorstInputs {
  const { json, deep, read, send: ask } = costlyRequests(registry)
  const key = makeHostKey('ES256')
  const jwk = JSON.stringify(key.jwk)
  const enrolment = () => ({
    name: next(),
    repositories: numbers(100).map((index) => `a/b${'*a'.repeat(17)}${index}`),
    networks: numbers(100).map((index) => `2001:db8:${index}::/48`),
    labels: Object.fromEntries(numbers(32).map((index) => [`l${index}`, 'v'.repeat(63)])),
  })
  const send = (path: string, fields: Record<string, string>) =>
    registry.anonymous(path, { method: 'POST', body: new URLSearchParams(fields) })
  let host: ReturnType<typeof enrolHost> | undefined
  const asHost = async (path: string, init: RequestInit = {}) => {
    host ??= enrolHost(registry)
    const { name, request } = await host
    return request(`/api/v1/hosts/${name}/${path}`, init)
  }
  const report = (fields: object) =>
    asHost('units/www', {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...REPORT, ...fields }),
    })
  return {
    'GET /api/v1/runs': [
      read(`/api/v1/runs?package=bigstringaf&version=${encodeURIComponent(CONSTRAINT)}`),
      read(`/api/v1/runs?running=1&n=1000`),
    ],
    'GET /api/v1/hosts/:host/desired': [input('no wait', () => asHost('desired?wait=0'))],
    'PUT /api/v1/hosts/:host/units/:unit': [
      input('a log of escapes', () => report({ log: { text: '\x1b]'.repeat(8000) } })),
      input('a log of open escapes', () => report({ log: { text: `\x1b[${'0'.repeat(16_000)}` } })),
      input(
        'many tenders and devices',
        () =>
          report({
            tenders: numbers(32).map((abi) => ({ target: 'hvt', abi })),
            devices: numbers(64).map((index) => `net:${'n'.repeat(60)}${index}`),
          }),
        200,
      ),
      input(
        'a form',
        () => {
          const form = new FormData()
          for (const [name, value] of Object.entries(REPORT)) {
            form.set(name, typeof value === 'object' ? JSON.stringify(value) : String(value))
          }
          form.set('log', new Blob(['a'.repeat(60_000)]), 'log')
          return asHost('units/www', { method: 'PUT', body: form })
        },
        400,
      ),
      input(
        'deep JSON',
        () =>
          asHost('units/www', {
            method: 'PUT',
            headers: { 'content-type': 'application/json' },
            body: '['.repeat(60_000),
          }),
        400,
      ),
    ],
    'DELETE /api/v1/hosts/:host/units/:unit': [
      input('no such unit', () => asHost('units/none', { method: 'DELETE' }), 404),
    ],
    'POST /api/v1/enrolments': [
      json('POST', '/api/v1/enrolments', enrolment, 201),
      deep('POST', '/api/v1/enrolments'),
    ],
    'POST /api/v1/hosts': [
      json('POST', '/api/v1/hosts', enrolment, 201),
      deep('POST', '/api/v1/hosts'),
    ],
    'GET /api/v1/hosts': [
      read(
        `/api/v1/hosts?n=1000&${numbers(32)
          .map((index) => `label=l${index}%3D${'v'.repeat(1_000)}`)
          .join('&')}`,
      ),
    ],
    'GET /api/v1/hosts/:host': [read('/api/v1/hosts/missing', 404)],
    'PATCH /api/v1/hosts/:host': [
      json(
        'PATCH',
        '/api/v1/hosts/missing',
        () => {
          const { name: _, ...change } = enrolment()
          return change
        },
        404,
      ),
      deep('PATCH', '/api/v1/hosts/missing'),
    ],
    'DELETE /api/v1/hosts/:host': [ask('DELETE', '/api/v1/hosts/missing', 404)],
    'POST /api/v1/hosts/:host/approve': [
      json(
        'POST',
        '/api/v1/hosts/missing/approve',
        () => {
          const { name: _, ...grant } = enrolment()
          return { fingerprint: 'a'.repeat(43), ...grant }
        },
        404,
      ),
      deep('POST', '/api/v1/hosts/missing/approve'),
    ],
    'POST /api/v1/hosts/enrol': [
      input('a large proof', () => send('/api/v1/hosts/enrol', { jwk, proof: LARGE }), 400),
      input('a large key', () => send('/api/v1/hosts/enrol', { jwk: LARGE, proof: 'a' }), 400),
      input(
        'a signature to verify',
        () => send('/api/v1/hosts/enrol', { name: 'x', jwk, proof: assertionOf(key, 'another') }),
        400,
      ),
      deep('POST', '/api/v1/hosts/enrol'),
    ],
    'POST /api/v1/hosts/:host/keys': [
      input(
        'a large assertion',
        () =>
          asHost('keys', {
            method: 'POST',
            body: new URLSearchParams({ jwk, proof: LARGE, assertion: 'a' }),
          }),
        400,
      ),
    ],
  }
}
