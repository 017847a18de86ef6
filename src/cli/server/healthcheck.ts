import { type IncomingMessage, request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { readListen } from '../../config/listen.ts'
import { command, flag, parsed, withDefault } from '../command.ts'
import { CommandError, reasonOf, STATUS } from '../errors.ts'
import { parseNumber } from '../numbers.ts'
import { printLines } from '../printing.ts'

/** For the whole answer. The server looks at its database and its store meanwhile. */
const ANSWER_SECONDS_MAX = 5
const WAIT_SECONDS_MAX = 3600
const ASK_AGAIN_MILLISECONDS = 500
/** The limit of what is read of an answer. */
const BODY_BYTES_MAX = 4096
/** Addresses that a server listens on, and nobody connects to. */
const EVERY_ADDRESS: ReadonlySet<string> = new Set(['0.0.0.0', '::'])
/** Docker keeps 2 for itself, so every failure is 1. */
const STATUS_UNHEALTHY = 1

/**
 * `rookery healthcheck`: one request to the server that has the same ROOKERY_LISTEN. It loads little, because a container
 * runs it every half minute.
 */
export const healthcheckCommand = command({
  options: {
    live: flag('ask only whether its process answers, and not whether it is ready'),
    wait: withDefault(
      parsed('SECONDS', 'ask again for SECONDS, until the answer is good', (name, text) =>
        parseNumber(name, text, 0, WAIT_SECONDS_MAX),
      ),
      '0',
    ),
  },
  notes: `The server has the address of ROOKERY_LISTEN. It is ready when its database and its store answer. The exit status is 0, or 1 with the reason when it is not, or does not answer in ${ANSWER_SECONDS_MAX} s.`,
  examples: [
    ['rookery healthcheck', 'is the server ready? for the health check of a container'],
    ['rookery healthcheck --wait 60', 'wait for a server that starts'],
  ],
  async run({ live, wait }, environment) {
    try {
      const url = urlOf(environment, live ? '/healthz' : '/readyz')
      await becomeHealthy(url, performance.now() + wait * 1000)
      printLines([`${url} answers: ${live ? 'the server runs' : 'the server is ready'}`])
      return STATUS.ok
    } catch (cause) {
      throw new CommandError(reasonOf(cause), { cause, status: STATUS_UNHEALTHY })
    }
  },
})

function urlOf(environment: NodeJS.ProcessEnv, path: string): string {
  const { host, port } = readListen(environment)
  if (port === 0) {
    throw new Error('ROOKERY_LISTEN has port 0, which is another one at each start: name a port')
  }
  // Servers on [::] accept connections by IPv4, too, and a container need not have ::1.
  const reached = EVERY_ADDRESS.has(host) ? '127.0.0.1' : host
  return `http://${reached.includes(':') ? `[${reached}]` : reached}:${port}${path}`
}

async function becomeHealthy(url: string, deadline: number): Promise<void> {
  for (;;) {
    try {
      return await assertHealthy(url)
    } catch (error) {
      if (performance.now() + ASK_AGAIN_MILLISECONDS > deadline) throw error
    }
    await delay(ASK_AGAIN_MILLISECONDS)
  }
}

async function assertHealthy(url: string): Promise<void> {
  const signal = AbortSignal.timeout(ANSWER_SECONDS_MAX * 1000)
  const failed = (cause: unknown) => {
    const why = signal.aborted ? `no answer in ${ANSWER_SECONDS_MAX} s` : reasonOf(cause)
    return new Error(`${url}: ${why}`, { cause })
  }
  const { status, text } = await ask(url, signal).catch((cause: unknown) => {
    throw failed(cause)
  })
  if (status !== 200) throw new Error(`${url} answers ${status}${messageIn(text)}`)
}

type Answer = { readonly status: number | undefined; readonly text: string }

function ask(url: string, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    // A connection of its own, which ends with the answer: no keep-alive holds the process.
    const sent = request(url, { agent: false, signal }, (answer) => {
      readStart(answer).then((text) => resolve({ status: answer.statusCode, text }), reject)
    })
    sent.on('error', reject)
    sent.end()
  })
}

async function readStart(answer: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of answer.setEncoding('utf8')) {
    text += chunk
    // The loop ends the connection.
    if (text.length > BODY_BYTES_MAX) break
  }
  return text
}

/** The message of an error of the registry, behind a colon. Another program may be at the port. */
function messageIn(text: string): string {
  const [, message] = /"message":"([^"\\]{1,500})"/.exec(text) ?? []
  return message === undefined ? '' : `: ${message}`
}
