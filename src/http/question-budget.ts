import { setTimeout as delay } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { entriesMax } from '../async/entries-max.ts'
import { clientNetwork } from '../networks/networks.ts'
import { RegistryError } from '../oci/errors.ts'
import type { QuestionQueryable, Questions } from '../registry/questions.ts'
import type { RouteContext } from './route.ts'
import { ClientDisconnectedError } from './send-bytes.ts'

/** Returns the connection for the lists and searches of a request. */
export type AskQuestion = (ctx: RouteContext) => QuestionQueryable

/** Time in Postgres, in milliseconds, that a client may use at once, and for each second. */
type Rate = { readonly atOnce: number; readonly eachSecond: number }

/** Callers without a credential share the budget of their address. */
const ANONYMOUS_RATE: Rate = { atOnce: 10_000, eachSecond: 250 }
const CREDENTIAL_RATE: Rate = { atOnce: 20_000, eachSecond: 500 }
const ADDRESSES_MAX = 50_000
/** Statements that run at the same time may spend more than is left, down to this. */
const DEBT_MILLISECONDS_MAX = 5_000

/** A refusal is answered after this time. */
const HELD_MILLISECONDS = 1_000
/** Refusals that wait at the same time; further ones are answered at once. */
const HELD_MAX = 5_000

/** Time in Postgres that a client used. */
export type Spent = {
  readonly client: string
  readonly isAnonymous: boolean
  readonly milliseconds: number
}

type Account = { left: number; at: number }

/**
 * Limits the time in Postgres that questions of one client take: of an address without a credential (an IPv6
 * address counts with its /64), or of a credential at an address.
 */
export class QuestionBudget {
  readonly #accounts = new LRUCache<string, Account>(entriesMax(ADDRESSES_MAX))
  /** Called for the time of each question, for the other processes of this server. */
  onSpent: (spent: Spent) => void = () => {}
  readonly #now: () => number

  /** `now` is in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Throws TOOMANYREQUESTS with `retryAfterSeconds` when the client has used up its time. */
  admit(address: string, actor: string | undefined): void {
    const isAnonymous = actor === undefined
    const { left, rate } = this.#account(clientOf(address, actor), isAnonymous)
    if (left > 0) return
    const retryAfterSeconds = Math.ceil((1 - left) / rate.eachSecond)
    throw new RegistryError('TOOMANYREQUESTS', undefined, {
      message: `lists and searches of ${actor ?? address} took too much time, try again in ${retryAfterSeconds} s, or ask for less: name a repository`,
      retryAfterSeconds,
    })
  }

  spend(address: string, actor: string | undefined, milliseconds: number): void {
    const isAnonymous = actor === undefined
    const spent = { client: clientOf(address, actor), isAnonymous, milliseconds }
    this.countSpent(spent)
    this.onSpent(spent)
  }

  /** Counts the time of a question that another process of this server answered. */
  countSpent({ client, isAnonymous, milliseconds }: Spent): void {
    const { left } = this.#account(client, isAnonymous)
    this.#accounts.set(client, {
      left: Math.max(left - milliseconds, -DEBT_MILLISECONDS_MAX),
      at: this.#now(),
    })
  }

  #account(client: string, isAnonymous: boolean) {
    const rate = isAnonymous ? ANONYMOUS_RATE : CREDENTIAL_RATE
    const account = this.#accounts.get(client)
    if (account === undefined) return { rate, left: rate.atOnce }
    const earned = ((this.#now() - account.at) / 1000) * rate.eachSecond
    return { rate, left: Math.min(account.left + earned, rate.atOnce) }
  }
}

/** The client of a question: an address without a credential, or a credential at an address. */
function clientOf(address: string, actor: string | undefined): string {
  return `${clientNetwork(address)} ${actor ?? ''}`
}

/** Returns the function that routes use: it ends a question when its client leaves, and counts its time. */
export function askWithin(questions: Questions, budget: QuestionBudget): AskQuestion {
  return (ctx) => {
    const { address, caller } = ctx.state
    const actor = caller.kind === 'anonymous' ? undefined : caller.actor
    const signal = signalOf(ctx)
    const admit = () => budget.admit(address, actor)
    return questions.of({
      client: clientOf(address, actor),
      signal,
      admit,
      admitSlowly: () => holdRefusal(admit, signal),
      spend: (milliseconds) => budget.spend(address, actor, milliseconds),
    })
  }
}

let held = 0

/** Runs `admit`, and throws its refusal late: a client that repeats refused questions at once takes no time from others. */
async function holdRefusal(admit: () => void, signal: AbortSignal): Promise<void> {
  try {
    admit()
  } catch (refusal) {
    if (held < HELD_MAX) {
      held += 1
      await delay(HELD_MILLISECONDS, undefined, { signal }).catch(() => {})
      held -= 1
    }
    throw refusal
  }
}

/** Returns a signal that the end of the connection aborts, unless the answer is sent by then. */
function signalOf(ctx: RouteContext): AbortSignal {
  const leaving = new AbortController()
  const { res } = ctx
  // The reason is what a question throws that waits for its turn.
  const leave = () => leaving.abort(new ClientDisconnectedError())
  if (res.destroyed) leave()
  else res.once('close', () => res.writableFinished || leave())
  return leaving.signal
}
