import type { Config } from '../config.ts'
import type { Actor } from '../db/audit.ts'
import { migrate } from '../db/migrations.ts'
import type { State } from '../state.ts'
import { STATUS, tellAbsence, withDatabase } from './command.ts'

/** Whoever may run commands on this machine, as the audit log calls them. */
export const OPERATOR: Actor = {
  name: 'operator',
  origin: null,
  tokenId: null,
  address: null,
  requestId: null,
}

/** What a builder does, when nothing else was said. */
export const ACTIONS_DEFAULT: readonly string[] = ['pull', 'push']

/** What commands need that change rights and nothing in the store. */
export type RegistryState = Pick<State, 'db' | 'dataFolder'>

/**
 * Runs `work` on the database of a registry that is there, its schema brought up to date.
 */
export async function withRegistry(
  environment: NodeJS.ProcessEnv,
  work: (state: RegistryState, config: Config) => Promise<number>,
): Promise<number> {
  if (await tellAbsence(environment)) return STATUS.failed
  return withDatabase(environment, async (state, config) => {
    await migrate(state.db)
    return work(state, config)
  })
}

/** How clients reach the registry, as far as the configuration tells. */
export function reachedAt({ publicUrl, listen }: Config): string {
  if (publicUrl !== undefined) return publicUrl
  // An address that listens everywhere is reached here at loopback.
  const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[listen.host] ?? listen.host
  return `http://${host.includes(':') ? `[${host}]` : host}:${listen.port}`
}

/** An option that may be given several times, or once with commas; undefined when it was not. */
export function listOf(values: readonly string[] | undefined): string[] | undefined {
  return values?.flatMap((value) => value.split(','))
}

const PAGE = 500

/** All that a listing has, page after page in the order of names. */
export async function allNamed<T extends { readonly name: string }>(
  list: (last: string, limit: number) => Promise<T[]>,
): Promise<T[]> {
  const all: T[] = []
  for (;;) {
    const page = await list(all.at(-1)?.name ?? '', PAGE)
    all.push(...page)
    if (page.length < PAGE) return all
  }
}
