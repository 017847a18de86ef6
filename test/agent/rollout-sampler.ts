import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'

/** The units of a deployment that occupied a place of its batch at one time, from the grant until they were settled. */
export type Sample = {
  readonly deployment: string
  readonly kind: string
  readonly occupied: number
  /** How many the rollout allowed at that time. */
  readonly allowed: number
}

const EVERY_MILLISECONDS = 10

/** Reads the database again and again, and keeps every sample in which a rollout exceeded its batch. */
export class RolloutSampler {
  readonly exceeded: Sample[] = []
  samples = 0
  readonly #connect: () => Promise<pg.Client>
  readonly #canary: number
  readonly #batch: number
  readonly #stopping = new AbortController()
  readonly #running: Promise<void>

  constructor(connect: () => Promise<pg.Client>, canary: number, batch: number) {
    this.#connect = connect
    this.#canary = canary
    this.#batch = batch
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        const client = await this.#connect()
        client.on('error', () => {})
        await this.#sampleUntilLost(client, signal).finally(() => client.end().catch(() => {}))
      } catch {
        // Postgres was killed, or is not up yet.
        await delay(EVERY_MILLISECONDS)
      }
    }
  }

  async #sampleUntilLost(client: pg.Client, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { rows } = await client.query<Omit<Sample, 'allowed'> & { settled: number }>(
        `select d.id as deployment, d.kind,
                count(*) filter (
                  where t.state in ('granted', 'fetching', 'starting', 'checking')
                     or (t.state = 'healthy' and t.settled_at is null))::int as occupied,
                count(*) filter (where t.settled_at is not null)::int as settled
           from deployments d
           join targets t on t.deployment_id = d.id
          group by d.id`,
      )
      this.samples += 1
      for (const { settled, ...sample } of rows) {
        const allowed = settled < this.#canary ? this.#canary : this.#batch
        if (sample.occupied > allowed) this.exceeded.push({ ...sample, allowed })
      }
      await delay(EVERY_MILLISECONDS)
    }
  }
}
