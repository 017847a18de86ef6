import { assertionOf, enrolHost, makeHostKey } from '../support/hosts.ts'
import type { TestRegistry } from '../support/registry.ts'
import { numbers } from './worst-files.ts'
import { costlyRequests, input, nextName as next, type WorstInputs } from './worst-inputs.ts'

const LARGE = 'a'.repeat(60_000)

/** The worst inputs of the routes of hosts. */
export function worstHostInputs(registry: TestRegistry): WorstInputs {
  const { json, deep } = costlyRequests(registry)
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
  return {
    'POST /api/v1/enrolments': [
      json('POST', '/api/v1/enrolments', enrolment, 201),
      deep('POST', '/api/v1/enrolments'),
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
        async () => {
          host ??= enrolHost(registry)
          const { name, request } = await host
          return request(`/api/v1/hosts/${name}/keys`, {
            method: 'POST',
            body: new URLSearchParams({ jwk, proof: LARGE, assertion: 'a' }),
          })
        },
        400,
      ),
    ],
  }
}
