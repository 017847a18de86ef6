import { LRUCache } from 'lru-cache'
import { clientNetwork } from '../networks/networks.ts'
import { RegistryError } from '../oci/errors.ts'
import type { QuestionQueryable, Questions } from '../registry/questions.ts'
import type { RouteContext } from './route.ts'

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

type Account = { left: number; at: number }

/**
 * Limits the time in Postgres that questions of one client take: of an address without a credential (an IPv6
 * address counts with its /64), or of a credential at an address.
 */
export class QuestionBudget {
  readonly #accounts = new LRUCache<string, Account>({ max: ADDRESSES_MAX })
  readonly #now: () => number

  /** `now` is in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Throws TOOMANYREQUESTS with `retryAfterSeconds` when the client has used up its time. */
  admit(address: string, actor: string | undefined): void {
    const { left, rate } = this.#account(address, actor)
    if (left > 0) return
    const retryAfterSeconds = Math.ceil((1 - left) / rate.eachSecond)
    throw new RegistryError('TOOMANYREQUESTS', undefined, {
      message: `lists and searches of ${actor ?? address} took too much time, try again in ${retryAfterSeconds} s, or ask for less: name a repository`,
      retryAfterSeconds,
    })
  }

  spend(address: string, actor: string | undefined, milliseconds: number): void {
    const { key, left } = this.#account(address, actor)
    this.#accounts.set(key, {
      left: Math.max(left - milliseconds, -DEBT_MILLISECONDS_MAX),
      at: this.#now(),
    })
  }

  #account(address: string, actor: string | undefined) {
    const rate = actor === undefined ? ANONYMOUS_RATE : CREDENTIAL_RATE
    const key = `${clientNetwork(address)} ${actor ?? ''}`
    const account = this.#accounts.get(key)
    if (account === undefined) return { key, rate, left: rate.atOnce }
    const earned = ((this.#now() - account.at) / 1000) * rate.eachSecond
    return { key, rate, left: Math.min(account.left + earned, rate.atOnce) }
  }
}

/** Returns the function that routes use: it ends a question when its client leaves, and counts its time. */
export function askWithin(questions: Questions, budget: QuestionBudget): AskQuestion {
  return (ctx) => {
    const { address, caller } = ctx.state
    const actor = caller.kind === 'anonymous' ? undefined : caller.actor
    return questions.of({
      signal: signalOf(ctx),
      admit: () => budget.admit(address, actor),
      spend: (milliseconds) => budget.spend(address, actor, milliseconds),
    })
  }
}

/** Returns a signal that the end of the connection aborts. */
function signalOf(ctx: RouteContext): AbortSignal {
  const leaving = new AbortController()
  if (ctx.res.destroyed) leaving.abort()
  else ctx.res.once('close', () => leaving.abort())
  return leaving.signal
}
