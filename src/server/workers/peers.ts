import type { Failure } from '../../auth/login-throttle.ts'
import type { Spent } from '../../http/question-budget.ts'

/** The messages that processes of one server send to all others. */
export type Posts = {
  /** A wrong secret: the hashes under which it counts. See LoginThrottle. */
  readonly 'login-failure': Failure
  /** Time in Postgres of a client. See QuestionBudget. */
  readonly 'question-time': Spent
  /** How many of a kind each client has, as far as it changed. See SharedCounts. */
  readonly counts: ChangedCounts
  /** Events were committed that wait for their position. */
  readonly committed: null
}

export type ChangedCounts = {
  readonly kind: string
  readonly total: number
  /** Clients and their new counts; 0: it has none any more. */
  readonly changed: readonly (readonly [client: string, count: number])[]
}

/** The questions that a process asks all others. */
export type Answers = {
  /** Reads the revocations of tokens and credentials at once. */
  readonly revocations: null
  /** The metrics of the process, in the JSON of prom-client. */
  readonly metrics: object[]
}

/** The other processes of this server. A process that ends loses what it was sent. */
export type Peers = {
  /** Sends a value to all others, together with what follows within milliseconds. */
  post<T extends keyof Posts>(topic: T, value: Posts[T]): void
  /** Calls the listener for each value of another process, with the number of that process. */
  onPost<T extends keyof Posts>(topic: T, listener: (value: Posts[T], from: number) => void): void
  /** Asks all others, and resolves with the answers of those that answer within ANSWER_MILLISECONDS_MAX. */
  ask<T extends keyof Answers>(topic: T): Promise<Answers[T][]>
  /** Sets what answers a question of another process. */
  onAsk<T extends keyof Answers>(topic: T, answer: () => Promise<Answers[T]>): void
  /** Calls the listener when there is another process, which knows nothing yet. */
  onJoin(listener: () => void): void
  /** Calls the listener when another process has ended. */
  onLeave(listener: (from: number) => void): void
}

/** The peers of a server that is one process. */
export const NO_PEERS: Peers = {
  post() {},
  onPost() {},
  ask: async () => [],
  onAsk() {},
  onJoin() {},
  onLeave() {},
}
