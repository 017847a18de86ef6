#!/usr/bin/env node
// Shows the deployments of a registry as deployments on GitHub: https://docs.github.com/en/rest/deployments.
// It needs Node 20 and these variables:
//   ROOKERY_SECRET     the signing secret of the webhook, whsec_…
//   GITHUB_TOKEN       a token that may write deployments
//   GITHUB_REPOSITORY  such as octo/www
//   GITHUB_REF         the branch or commit that the deployments name; main by default
//   PORT               where it listens; 8080 by default
import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const { ROOKERY_SECRET = '', GITHUB_TOKEN = '', GITHUB_REPOSITORY = '' } = process.env
const {
  GITHUB_API_URL = 'https://api.github.com',
  GITHUB_REF = 'main',
  PORT = '8080',
} = process.env
const BODY_BYTES_MAX = 64 * 1024
const REQUEST_MILLISECONDS_MAX = 10_000
/** The states of GitHub for those of the registry. */
const STATES = {
  rolling: 'in_progress',
  paused: 'pending',
  succeeded: 'success',
  failed: 'failure',
  halted: 'failure',
  superseded: 'inactive',
  cancelled: 'inactive',
}

createServer(async (req, res) => {
  try {
    const body = await read(req)
    if (!isSigned(req.headers['x-hub-signature-256'], body)) return res.writeHead(401).end()
    const { type, data } = JSON.parse(body)
    if (/^deployment\.(?:created|updated|finished)$/.test(type)) await show(data)
    res.writeHead(204).end()
  } catch (error) {
    // The registry sends the event again.
    console.error(error.message)
    res.writeHead(502).end()
  }
}).listen(Number(PORT), () => console.log('listening'))

async function read(req) {
  const chunks = []
  let bytes = 0
  for await (const chunk of req) {
    bytes += chunk.length
    if (bytes > BODY_BYTES_MAX) throw new Error('the body is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

function isSigned(given = '', body) {
  const right = `sha256=${createHmac('sha256', ROOKERY_SECRET).update(body).digest('hex')}`
  return given.length === right.length && timingSafeEqual(Buffer.from(given), Buffer.from(right))
}

/** Creates the deployment on GitHub unless an earlier event did, and gives it the present state. */
async function show({ repository, tag, digest, deployment, state, counts }) {
  const environment = `${repository}:${tag}`
  const query = new URLSearchParams({ environment, per_page: '100' })
  const found = await github('GET', `/deployments?${query}`)
  const existing = found.find(({ payload }) => payload?.rookery === deployment)
  const { id } =
    existing ??
    (await github('POST', '/deployments', {
      ...{ ref: GITHUB_REF, environment, auto_merge: false, required_contexts: [] },
      ...{ description: digest, payload: { rookery: deployment, digest } },
    }))
  const description = counts ? `${counts.healthy} of ${counts.of} healthy` : digest.slice(0, 19)
  await github('POST', `/deployments/${id}/statuses`, { state: STATES[state], description })
}

async function github(method, path, sent) {
  const answer = await fetch(`${GITHUB_API_URL}/repos/${GITHUB_REPOSITORY}${path}`, {
    method,
    headers: {
      accept: 'application/vnd.github+json',
      authorization: `Bearer ${GITHUB_TOKEN}`,
      'content-type': 'application/json',
    },
    ...(sent === undefined ? {} : { body: JSON.stringify(sent) }),
    signal: AbortSignal.timeout(REQUEST_MILLISECONDS_MAX),
  })
  if (!answer.ok) throw new Error(`GitHub answered ${answer.status} to ${method} ${path}`)
  return answer.json()
}
