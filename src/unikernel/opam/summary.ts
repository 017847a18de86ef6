import { findTarget, type Target } from '../targets.ts'
import type { PlainValue } from './definition.ts'
import type { OpamLock } from './lock.ts'
import type { OpamSwitch } from './switch.ts'

/** The facts of an opam switch or a lock file that a push and a list need. The others may have a megabyte. */
export type OpamSummary = {
  readonly synopsis?: string
  /** The target that mirage was configured for. */
  readonly target?: Target
}

type Described = Pick<OpamLock, 'about'> & {
  readonly mirage: readonly Pick<OpamSwitch['mirage'][number], 'name' | 'value'>[]
}

// mirage's command line, in the arguments of any shell.
const TARGET_OPTION = /(?:^|\s)(?:-t\s*|--target[=\s]\s*)["']?([a-z0-9-]+)/g

/** Summarizes an opam switch or a lock file. */
export function summarizeOpam({ about, mirage }: Described): OpamSummary {
  const synopsis = about?.synopsis
  const configure = mirage.filter(({ name }) => name === 'x-mirage-configure')
  const [target, ...others] = new Set(configure.flatMap(({ value }) => targetsOf(value)))
  return {
    ...(synopsis === undefined ? {} : { synopsis }),
    // A switch of several unikernels does not say which of them this one is.
    ...(target === undefined || others.length > 0 ? {} : { target }),
  }
}

function targetsOf(value: PlainValue): Target[] {
  const words = [...textsOf(value)].join(' ')
  return [...words.matchAll(TARGET_OPTION)].flatMap(([, word = '']) => findTarget(word) ?? [])
}

function* textsOf(value: PlainValue): Generator<string> {
  if (typeof value === 'string') yield value
  else if (typeof value === 'object') for (const one of value) yield* textsOf(one)
}
