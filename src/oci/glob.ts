import { badRequest } from './errors.ts'
import { GlobMatcher } from './glob-matcher.ts'
import type { Repository } from './reference.ts'

/** A checked pattern, made only by the functions below. `*` matches all characters but `/`, and `**` all. */
export type Glob = string & { readonly __type: 'Glob' }

// The maximum length of a repository name, so that a comparison takes microseconds.
const GLOB_LENGTH_MAX = 255
const REPOSITORY_GLOB = /^[a-z0-9._*-]+(?:\/[a-z0-9._*-]+)*$/
const TAG_GLOB = /^[a-zA-Z0-9._*-]+$/

/** Parses a repository pattern: `builds/*` (one component) or `builds/**` (any number). Throws REQUEST_INVALID. */
export function parseRepositoryGlob(text: string): Glob {
  return parseGlob(text, REPOSITORY_GLOB, 'a repository pattern is a name with * or ** in it')
}

/** Parses a tag pattern such as `v*`. Throws REQUEST_INVALID. */
export function parseTagGlob(text: string): Glob {
  return parseGlob(text, TAG_GLOB, 'a tag pattern is a tag with * in it')
}

/** Parses a pattern for the value of a claim, which may contain any character but NUL. Throws REQUEST_INVALID. */
export function parseClaimGlob(text: string): Glob {
  return parseGlob(text, /^[^\0]+$/, 'a condition is a value with * or ** in it')
}

/** Returns the pattern that matches this repository alone. */
export function globOf(repository: Repository): Glob {
  return repository as string as Glob
}

function parseGlob(text: string, allowed: RegExp, rule: string): Glob {
  if (text.length > GLOB_LENGTH_MAX || !allowed.test(text)) {
    throw badRequest(`${rule}, of at most ${GLOB_LENGTH_MAX} characters`, {
      detail: { pattern: text.slice(0, GLOB_LENGTH_MAX) },
    })
  }
  return text as Glob
}

type Step = { readonly kind: 'literal'; readonly text: string } | { readonly kind: '*' | '**' }

/**
 * True when the pattern matches the whole text. Takes time proportional to the length of the text, for any
 * pattern: nothing is compared twice.
 */
export function matchesGlob(glob: Glob, text: string): boolean {
  const star = glob.indexOf('*')
  if (star === -1) return glob === text
  // Most comparisons end here: an event is compared with a thousand filters.
  if (!text.startsWith(glob.slice(0, star))) return false
  if (glob === '**') return true
  return compiled(glob).matches(text)
}

/** True when one of the patterns matches. */
export function matchesAnyGlob(globs: readonly Glob[], text: string): boolean {
  return globs.some((glob) => matchesGlob(glob, text))
}

/**
 * True only when `outer` matches every text that `inner` matches. May be false when it does, but never the
 * reverse. Takes time proportional to the product of both lengths.
 */
export function coversGlob(outer: Glob, inner: Glob): boolean {
  const star = outer.indexOf('*')
  if (star === -1) return outer === inner
  if (!inner.startsWith(outer.slice(0, star))) return false
  // Matches `inner` as a text in which a star is one character, which only an equal or wider star takes.
  return accepts(stepsOf(outer), stepsOf(inner), (step, taken) =>
    step.kind === 'literal'
      ? taken.kind === 'literal' && taken.text === step.text
      : step.kind === '**' || isWithinComponent(taken),
  )
}

/** The compiled patterns that were used last: a filter is compared with many texts. */
const matchers = new Map<Glob, GlobMatcher>()
const MATCHERS_MAX = 1024

function compiled(glob: Glob): GlobMatcher {
  const cached = matchers.get(glob)
  if (cached !== undefined) return cached
  const matcher = new GlobMatcher(glob)
  for (const oldest of matchers.keys()) {
    if (matchers.size < MATCHERS_MAX) break
    matchers.delete(oldest)
  }
  matchers.set(glob, matcher)
  return matcher
}

function isWithinComponent(step: Step): boolean {
  return step.kind === 'literal' ? step.text !== '/' : step.kind === '*'
}

function stepsOf(glob: Glob): Step[] {
  return (glob.match(/\*\*+|./gsu) ?? []).map((text) => {
    if (text === '*') return { kind: '*' }
    return text.startsWith('**') ? { kind: '**' } : { kind: 'literal', text }
  })
}

/** True when the steps accept all of `input`, one element after the other. */
function accepts<T>(
  steps: readonly Step[],
  input: Iterable<T>,
  takes: (step: Step, one: T) => boolean,
): boolean {
  // The positions in `steps` that the input so far can have reached.
  let reached = afterStars(new Set([0]), steps)
  for (const one of input) {
    const next = new Set<number>()
    for (const index of reached) {
      const step = steps[index]
      if (step !== undefined && takes(step, one))
        next.add(step.kind === 'literal' ? index + 1 : index)
    }
    if (next.size === 0) return false
    reached = afterStars(next, steps)
  }
  return reached.has(steps.length)
}

/** Adds the positions after stars, because a star may match nothing. */
function afterStars(reached: Set<number>, steps: readonly Step[]): Set<number> {
  for (const index of reached) {
    const step = steps[index]
    // A set is iterated in insertion order, and includes elements added meanwhile.
    if (step !== undefined && step.kind !== 'literal') reached.add(index + 1)
  }
  return reached
}
