import type { ReceiverRule } from './receiver-rules.ts'

type Json = Record<string, unknown>

function parsed(text: string): Json {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Json) : {}
  } catch {
    return {}
  }
}

const isText = (value: unknown, max = Number.POSITIVE_INFINITY): value is string =>
  typeof value === 'string' && value !== '' && value.length <= max
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const areTexts = (value: unknown) =>
  isObject(value) && Object.values(value).every((one) => typeof one === 'string')

/** GitHub, "Create a repository dispatch event": 204; 415, 403, 401 and 422 for what it refuses. */
export const githubDispatch =
  (token: string): ReceiverRule =>
  ({ method, path, headers, body }) => {
    if (method !== 'POST' || path !== '/repos/octo/www/dispatches') return { status: 404 }
    if (!headers['user-agent']) return { status: 403 }
    if (headers.accept !== 'application/vnd.github+json') return { status: 415 }
    if (headers.authorization !== `Bearer ${token}`) return { status: 401 }
    const { event_type, client_payload = {}, ...others } = parsed(body)
    const isValid =
      isText(event_type, 100) &&
      isObject(client_payload) &&
      Object.keys(client_payload).length <= 10 &&
      Object.keys(others).length === 0
    return isValid ? { status: 204, action: { event_type, ...client_payload } } : { status: 422 }
  }

/** Gitea and Forgejo, "Create a workflow dispatch event": 204; `inputs` are texts. */
export const giteaDispatch =
  (token: string): ReceiverRule =>
  ({ method, path, headers, body }) => {
    const workflows = '/api/v1/repos/octo/www/actions/workflows'
    if (path !== `${workflows}/deploy.yaml/dispatches`) return { status: 404 }
    if (method !== 'POST') return { status: 405 }
    const { authorization } = headers
    if (![`token ${token}`, `Bearer ${token}`].includes(authorization ?? '')) return { status: 401 }
    if (headers['content-type'] !== 'application/json') return { status: 422 }
    const { ref, inputs = {} } = parsed(body)
    if (!isText(ref) || !areTexts(inputs)) return { status: 422 }
    return { status: 204, action: { ref, ...(inputs as Json) } }
  }

/** Woodpecker, "Trigger a manual pipeline": 200 with the pipeline; `variables` are texts. */
export const woodpecker =
  (token: string): ReceiverRule =>
  ({ method, path, headers, body }) => {
    if (path !== '/api/repos/7/pipelines') return { status: 404 }
    if (method !== 'POST') return { status: 405 }
    if (headers.authorization !== `Bearer ${token}`) return { status: 401 }
    const isJson = headers['content-type'] === 'application/json'
    const { branch, variables = {} } = isJson ? parsed(body) : {}
    if (!isText(branch) || !areTexts(variables)) return { status: 400 }
    return { status: 200, action: { branch, ...(variables as Json) } }
  }

/** GitLab, "Create a new pipeline": 201; `variables` is a list of keys and values. */
export const gitlab =
  (token: string): ReceiverRule =>
  ({ method, path, headers, body }) => {
    if (path !== '/api/v4/projects/7/pipeline') return { status: 404 }
    if (method !== 'POST') return { status: 405 }
    if (headers.authorization !== `Bearer ${token}`) return { status: 401 }
    if (headers['content-type'] !== 'application/json') return { status: 415 }
    const { ref, variables = [] } = parsed(body)
    const pairs = Array.isArray(variables) ? variables : undefined
    const isValid = isText(ref) && pairs?.every(({ key, value }) => isText(key) && isText(value))
    if (!isValid) return { status: 400 }
    return {
      status: 201,
      action: { ref, ...Object.fromEntries(pairs?.map(({ key, value }) => [key, value]) ?? []) },
    }
  }
